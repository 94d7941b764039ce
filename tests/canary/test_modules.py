# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module of ours through every mode of Ansible, with a secret of its own in every secret field."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import scram

from tests.support.cluster import Cluster
from tests.support.controller import Controller
from tests.support.s3server import S3Server

from . import canaries, surfaces
from .canaries import Canary, Flock
from .watch import Watch

BUCKET = "backups"
CRASH = pathlib.Path(__file__).parent / "crash"
#: Functions that are handed secrets as plain text, by the module that calls them.
CRASHES = {
    "pg_db_bootstrap": (
        "domain/databases.py:parse",
        "domain/databases.py:identity",
        "sources/postgresql/scram.py:_keys",
    ),
    "age_backup": ("domain/databases.py:parse", "boto3/session.py:client", "streams/age.py:_recipient"),
    "s3_manifest_restore": ("streams/age.py:_identities", "boto3/session.py:client", "domain/secret.py:__init__"),
    "backup_info": ("boto3/session.py:client", "_ansible.py:store"),
    "store_probe": ("boto3/session.py:client",),
    "pg_cluster_info": ("psycopg2/__init__.py:connect", "_ansible.py:connection"),
    "secret_scrub": ("_scrub.py:__init__", "secret_scrub.py:run"),
}
#: The libraries that they come from stand in the result of such a crash: what the module was about to say.
CRASHED = ("unexpected RuntimeError", "planted: ")


def plain(canary: Canary) -> str:
    """The secret in an inventory: Ansible takes no part of it for a template."""
    return "{% raw %}" + canary.text + "{% endraw %}"


@dataclasses.dataclass
class Step:
    """A task of the play.

    :param expected: ``ok``, ``changed``, ``failed`` or ``crashed``.
    """

    module: str
    expected: str
    arguments: dict[str, t.Any]
    mode: dict[str, t.Any] = dataclasses.field(default_factory=dict)


class Scene:
    """A cluster, a store, a controller, and the secrets that all of them share."""

    def __init__(self, root: pathlib.Path, cluster: Cluster, server: S3Server) -> None:
        self.root = root
        self.cluster = cluster
        self.server = server
        self.flock = Flock()
        self.steps: list[Step] = []
        self.surprises: list[str] = []
        add = self.flock.add
        self.admin = add(canaries.text("password of the administrator"))
        self.wrong_admin = add(canaries.text("password of the administrator, wrong"))
        self.s3_key = add(canaries.whole("S3 secret key", server.secret_key))
        self.wrong_s3_key = add(canaries.word("S3 secret key, wrong"))
        self.token = add(canaries.word("S3 session token"))
        self.other_key = add(canaries.identity("private key of nobody"))
        self.cluster_key = add(canaries.identity("private key of the cluster"))
        self.scrubbed = add(canaries.text("secret to be scrubbed"))
        self.entries = [self._entry(name) for name in ("app", "shop")]
        cluster.psql(f"ALTER ROLE postgres PASSWORD '{scram.verifier(Secret(self.admin.text))}'")
        cluster.psql("CREATE EXTENSION pg_stat_statements")
        self.login = {"login_host": "127.0.0.1", "login_port": cluster.port, "login_password": plain(self.admin)}
        self.store = {
            "bucket": BUCKET,
            "endpoint": server.endpoint,
            "region": server.region,
            "access_key_id": server.access_key,
            "secret_access_key": plain(self.s3_key),
            "session_token": plain(self.token),
        }

    def _entry(self, name: str) -> dict[str, t.Any]:
        password = self.flock.add(canaries.text(f"password of {name}"))
        key = self.flock.add(canaries.identity(f"private key of {name}"))
        return {
            "name": name,
            "user": name,
            "password": plain(password),
            "backup_age_public_key": str(pyrage.x25519.Identity.from_str(key.text).to_public()),
            "backup_age_private_key": key.text,
        }

    @property
    def public(self) -> list[dict[str, t.Any]]:
        return [{k: v for k, v in entry.items() if k != "backup_age_private_key"} for entry in self.entries]

    def add(self, module: str, expected: str, arguments: dict[str, t.Any], **mode: t.Any) -> None:
        self.steps.append(Step(module, expected, arguments, mode))

    def arguments(self, module: str) -> dict[str, t.Any]:
        """With which the *module* succeeds, once there is a backup."""
        return {
            "pg_db_bootstrap": {
                "databases": self.entries,
                **self.login,
                **self.store,
                "cluster_age_private_key": self.cluster_key.text,
            },
            "age_backup": {
                "databases": self.public,
                **self.login,
                **self.store,
                "cluster_age_public_keys": [str(pyrage.x25519.Identity.from_str(self.cluster_key.text).to_public())],
                "cluster_passwords": True,
            },
            "s3_manifest_restore": {
                "databases": self.public,
                "only": ["app"],
                "source": "db/app/",
                **self.login,
                **self.store,
                "age_private_key": self.entries[0]["backup_age_private_key"],
                "keep_replaced": 0,
                "trust": "unsigned",
            },
            "backup_info": {"names": ["app", "shop"], **self.store},
            "store_probe": {"prefixes": ["db/app/"], **self.store},
            "pg_cluster_info": self.login,
            "secret_scrub": {"paths": [str(self.root / "*.sh")], "secrets": [plain(self.scrubbed)]},
        }[module]

    def play(self, watch: Watch, **environment: str) -> None:
        """Run the steps in one play and judge each by what it was expected to do."""
        tasks: list[dict[str, t.Any]] = []
        for number, step in enumerate(self.steps):
            tasks += [
                {
                    "name": f"{number} {step.expected}",
                    f"infrazero.database.{step.module}": step.arguments,
                    "register": f"result_{number}",
                    "ignore_errors": True,
                    **step.mode,
                },
                {"ansible.builtin.debug": {"var": f"result_{number}"}},
            ]
        names = "[" + ", ".join(f"result_{number}" for number in range(len(self.steps))) + "]"
        controller = Controller(self.root / "controller", {"ansible_python_interpreter": shutil.which("python")})
        controller.directory.mkdir(exist_ok=True)
        results = controller.directory / "results"
        tasks.append({"ansible.builtin.copy": {"dest": str(results), "mode": "0600", "content": f"{{{{ {names} }}}}"}})
        private = controller.directory / "private.json"
        private.write_text(json.dumps([{"hosts": "all", "gather_facts": True, "tasks": tasks}]), encoding="utf-8")
        run = controller.play(
            str(private.rename(private.with_suffix(".yml"))),
            *("-vvvv", "--diff"),
            environment={
                "ANSIBLE_LOG_PATH": str(controller.directory / "ansible.log"),
                "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
                "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(controller.directory / "facts"),
                "ANSIBLE_ASYNC_DIR": str(controller.directory / "async"),
                **environment,
            },
        )
        watch.output("output of ansible-playbook", run.output)
        assert run.status == 0, self._without_secrets(run.output)
        judged = zip(self.steps, json.loads(results.read_text(encoding="utf-8")))
        self.surprises += [said for step, result in judged if (said := self._surprise(step, result))]

    def _without_secrets(self, text: str) -> str:
        for canary in self.flock.canaries:
            text = text.replace(canary.core, "*" * 8)
        return text[-20000:]

    def _surprise(self, step: Step, result: dict[str, t.Any]) -> str:
        said = self._without_secrets(json.dumps({"step": f"{step.module} {step.mode}", **result}))
        if step.expected in ("ok", "changed"):
            as_expected = not result.get("failed") and result["changed"] is (step.expected == "changed")
        else:
            crashed = any(word in said for word in CRASHED)
            as_expected = bool(result.get("failed")) and crashed is (step.expected == "crashed")
        return "" if as_expected else f"not {step.expected}: {said}"


@pytest.fixture
def scene() -> t.Iterator[Scene]:
    # Not pytest's directory: postgres must get in.
    root = pathlib.Path(tempfile.mkdtemp(prefix="canary-", dir="/tmp"))
    root.chmod(0o755)
    try:
        with Cluster(configuration=surfaces.TALKATIVE) as cluster, S3Server(root / "s3") as server:
            server.create_bucket(BUCKET)
            yield Scene(root, cluster, server)
    finally:
        shutil.rmtree(root)


def invalid_entries(scene: Scene) -> list[dict[str, t.Any]]:
    """A list with secrets where they don't belong, as they get there by mistake."""
    app, shop = scene.entries
    return [
        {**app, "backup_age_public_key": app["backup_age_private_key"]},
        {**shop, "backup_age_private_key": app["backup_age_private_key"]},
        {**shop, "name": "other", "backup_age_private_key": plain(scene.scrubbed)},
    ]


def test_modules(scene: Scene, request: pytest.FixtureRequest) -> None:
    everything = request.config.getoption("--all-canaries", default=False)
    script = scene.root / "run.sh"
    script.write_text(f"export DATABASES_JSON_PRIVATE_B64=x\n# {scene.scrubbed.text}\n", encoding="utf-8")
    modules = list(CRASHES)
    first = {
        "age_backup": "changed",
        "s3_manifest_restore": "changed",
        "backup_info": "ok",
        "store_probe": "changed",
        "pg_cluster_info": "ok",
    }
    # Only on a fresh cluster does it read from the store.
    fresh = scene.arguments("pg_db_bootstrap")
    scene.add("pg_db_bootstrap", "failed", {**fresh, "secret_access_key": plain(scene.wrong_s3_key)}, diff=True)
    for module, expected in {"pg_db_bootstrap": "changed", **first, "secret_scrub": "changed"}.items():
        arguments = scene.arguments(module)
        if module != "s3_manifest_restore" or everything:
            scene.add(module, expected, arguments, check_mode=True, diff=True)
        scene.add(module, expected, arguments, diff=True)
    scene.add("pg_db_bootstrap", "ok", scene.arguments("pg_db_bootstrap"))
    scene.add("secret_scrub", "ok", scene.arguments("secret_scrub"))
    looped = scene.arguments("age_backup")
    scene.add("age_backup", "changed", {**looped, "only": ["{{ item }}"]}, loop=["app", "shop"])

    # Failing: with a wrong secret of each kind, with options that can't be read, with a list full of faults.
    wrong = {
        "login_password": plain(scene.wrong_admin),
        "secret_access_key": plain(scene.wrong_s3_key),
        "age_private_key": scene.other_key.text,
        "databases": invalid_entries(scene),
        "login_port": "no number",
    }
    for module in modules:
        arguments = scene.arguments(module)
        for option in [option for option in wrong if option in arguments]:
            unread = (module, option) == ("pg_db_bootstrap", "secret_access_key")
            scene.add(
                module,
                "ok" if unread else "failed",
                {**arguments, option: wrong[option]},
                diff=True,
                check_mode=option == "databases",
            )
        if "databases" in arguments:
            scene.add(module, "failed", {**arguments, "databases": json.dumps(arguments["databases"])[1:]})
    scene.add("secret_scrub", "failed", {**scene.arguments("secret_scrub"), "paths": {"no": "list"}})

    asynchronous = {"async": 60, "poll": 1}
    for module in modules:
        expected = {"secret_scrub": "ok", "pg_db_bootstrap": "ok", "store_probe": "ok"}.get(
            module, first.get(module, "")
        )
        if everything or module in ("age_backup", "pg_db_bootstrap"):
            scene.add(module, expected, scene.arguments(module), **asynchronous)
    crashing = {"PYTHONPATH": str(CRASH)}
    for module, places in CRASHES.items():
        for place in places if everything else places[:1]:
            environment = {**crashing, "CANARY_CRASH": place}
            scene.add(module, "crashed", scene.arguments(module), environment=environment)
            if everything:
                scene.add(module, "crashed", scene.arguments(module), environment=environment, **asynchronous)

    with Watch(scene.server.pid) as watch:
        scene.play(watch, ANSIBLE_PIPELINING="0")
        if everything:
            scene.play(watch, ANSIBLE_PIPELINING="1")
        found = watch.leaks(scene.flock, scene.cluster, scene.root)
    assert watch.log.heard or os.geteuid() != 0
    assert not found, "\n".join(map(str, found))
    assert not scene.surprises, "\n".join(scene.surprises)
