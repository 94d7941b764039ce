# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about keys as they are really run, with age, age-keygen and psql beside them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import pty
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

from conftest import COLLECTIONS, ROOT
from tests.support import manifests, scene
from tests.support.cluster import Cluster
from tests.support.foreign import FOREIGN, obeyed
from tests.support.signing import SigningHost

MODULE = "ansible_collections.infrazero.database.plugins.module_utils._engine.cli"


#: In the arguments, in place of the number of the descriptor that a text is read from.
FD = "{fd}"


#: Likewise, of a passphrase.
PHRASE_FD = "{phrase-fd}"


def command(
    *arguments: str, secret: str | None = None, phrase: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command.

    :param secret: what can be read from the descriptor that the arguments name as :data:`FD`.
    :param phrase: likewise, as :data:`PHRASE_FD`.
    """
    with contextlib.ExitStack() as stack:
        numbers = {}
        for name, text in ((FD, secret), (PHRASE_FD, phrase)):
            file = stack.enter_context(tempfile.TemporaryFile())
            file.write((text or "").encode())
            file.seek(0)
            numbers[name] = file.fileno()
        done = subprocess.run(
            [sys.executable, "-m", MODULE, *(str(numbers.get(one, one)) for one in arguments)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(COLLECTIONS), "LC_ALL": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=tuple(numbers.values()),
            check=False,
        )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def key_of(entry: Database) -> str:
    assert entry.identity is not None
    return entry.identity.reveal()


@dataclasses.dataclass
class Host:
    """A host with its configuration and its store."""

    root: pathlib.Path
    cluster: Cluster

    @property
    def store(self) -> pathlib.Path:
        return self.root / "store"

    def configure(self, *entries: Database) -> None:
        (self.root / "etc").mkdir(exist_ok=True)
        self.store.mkdir(exist_ok=True)
        listed = [
            {
                "name": entry.name,
                "user": entry.user,
                "password": entry.password.reveal(),
                "backup_age_public_key": list(entry.recipients),
            }
            for entry in entries
        ]
        values = {
            "DATABASES_JSON": json.dumps(listed),
            "DB_TYPE": "postgresql",
            "DB_HOST": self.cluster.host,
            "DB_PORT": str(self.cluster.port),
            "DB_BACKUP_DIRECTORY": str(self.store),
            "DB_SIGNING_NAME": "db1",
        }
        (self.root / "etc" / "db.env").write_text(envfile.render(values))
        if not (self.root / "etc" / "signing").exists():
            signer = SigningHost.make(self.root / "etc", "signing")
            line = signer.line.replace("signing ", "db1 ", 1)
            (self.root / "etc" / "allowed_signers").write_text(line)

    def run(self, name: str, *arguments: str, **more: t.Any) -> subprocess.CompletedProcess[str]:
        return command(name, "--config", str(self.root / "etc"), *arguments, **more)

    def objects(self) -> list[str]:
        return sorted(info.key for info in open_store(DirectorySettings(path=str(self.store))).list("db/"))


@pytest.fixture
def host(cluster: Cluster, tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path, cluster)


@pytest.fixture
def app(host: Host) -> Database:
    """A database with one backup."""
    entry = scene.entry("app")
    scene.make(host.cluster, entry)
    scene.fill(host.cluster, entry)
    host.configure(entry, scene.entry("blog"))
    assert host.run("backup", "--database", "app").returncode == 0
    return entry


def test_keys_that_age_itself_knows(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "key.txt"
    made = command("keygen", "--output", str(path))
    assert made.returncode == 0 and stat.S_IMODE(path.stat().st_mode) == 0o600
    recipient = subprocess.run(["age-keygen", "-y", path], capture_output=True, text=True, check=True).stdout.strip()
    assert f"recipient: {recipient}\n" in made.stdout
    assert f'"backup_age_public_key": "{recipient}"' in made.stdout
    assert "AGE-SECRET-KEY" not in made.stdout + made.stderr
    packed = subprocess.run(["age", "-r", recipient], input=b"text", capture_output=True, check=True).stdout
    assert subprocess.run(["age", "-d", "-i", path], input=packed, capture_output=True, check=True).stdout == b"text"

    # Never over something that is there, not even through a link.
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("key.txt", "link", "missing/key.txt"):
        refused = command("keygen", "--output", str(tmp_path / name))
        assert refused.returncode == 2 and "can't be created" in refused.stderr, refused
    assert path.read_bytes() == before and not (tmp_path / "elsewhere").exists()
    assert command("keygen").returncode == 2, "the key is shown only to those who ask for it"


def test_an_escrow_key_and_standard_output(tmp_path: pathlib.Path) -> None:
    escrow = json.loads(command("keygen", "--json", "--output", str(tmp_path / "escrow")).stdout)["recipient"]
    shown = command("keygen", "--stdout", "--escrow", escrow)
    assert shown.returncode == 0
    own = subprocess.run(["age-keygen", "-y"], input=shown.stdout, capture_output=True, text=True, check=True).stdout
    assert f'"backup_age_public_key": ["{own.strip()}", "{escrow}"]' in shown.stderr
    assert "AGE-SECRET-KEY" not in shown.stderr
    for wrong in ("age1mistyped", (tmp_path / "escrow").read_text().splitlines()[-1]):
        refused = command("keygen", "--output", str(tmp_path / "other"), "--escrow", wrong)
        assert refused.returncode == 2 and "AGE-SECRET-KEY" not in refused.stderr
    assert not (tmp_path / "other").exists()


def test_who_can_read_what(host: Host, app: Database) -> None:
    (key,) = (name for name in host.objects() if name.endswith(".age"))
    shown = host.run("who-can-read")
    assert shown.returncode == 0, shown
    assert shown.stdout.splitlines()[0] == key
    assert f"  recipient {app.recipients[0]} (database app)" in shown.stdout.splitlines()
    assert "  signed by db1 (SHA256:" in shown.stdout and ", the latest\n" in shown.stdout
    (found,) = json.loads(host.run("who-can-read", "--json", "--database", "app").stdout)["backups"]
    assert found["recipients"] == [{"recipient": app.recipients[0], "owners": ["database app"]}]
    assert (found["key"], found["signed_by"]["name"], found["as_listed"]) == (key, "db1", True)

    # The list has another key now; what a manifest says without a signature is not taken for true.
    host.configure(scene.entry("app"))
    assert f"  recipient {app.recipients[0]}\n" in host.run("who-can-read").stdout
    assert "1 backup encrypted to other recipients than the list has now" in host.run("who-can-read").stdout
    path = host.store / (key.partition(".sql")[0] + ".manifest.json")
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "recipients": [*FOREIGN]}))
    shown = host.run("who-can-read")
    assert "  NOT VERIFIED: the manifest " in shown.stdout and not obeyed(shown.stdout)
    for name in ("schema_version", "signature", "recipients"):
        del fields[name]
    path.write_text(json.dumps(fields))
    assert "  recipients are not recorded\n" in host.run("who-can-read").stdout
    path.write_text("{}")
    shown = host.run("who-can-read")
    assert shown.returncode == 0 and "NOT VERIFIED" in shown.stdout


def test_rekey_on_the_host(host: Host, app: Database) -> None:
    new = scene.entry("app")
    host.configure(new)
    before = host.objects()
    assert host.run("rekey").returncode == 2
    assert host.run("rekey", "--all", "--database", "app").returncode == 2
    assert host.run("rekey", "elsewhere/x.age").returncode == 2
    assert host.run("rekey", "--all").returncode == 2, "no key, and nobody to ask"
    planned = host.run("rekey", "--all", "--dry-run")
    assert planned.returncode == 0 and planned.stdout.endswith("1 to be rekeyed\n"), planned
    wrong = host.run("rekey", "--all", "--identity-fd", FD, secret=key_of(new))
    assert wrong.returncode == 1 and f"the given key belongs to {new.recipients[0]}" in wrong.stderr
    assert "this is the key of database app" in wrong.stderr
    assert host.objects() == before
    # Several keys, with comments, as in a file of age's.
    several = f"# old and new\n{key_of(new)}\n\n# the one of last year\n{key_of(app)}\n"
    done = host.run("rekey", "db/app/", "--identity-fd", FD, secret=several)
    assert done.returncode == 0 and done.stdout.endswith("1 rekeyed\n"), done
    assert ", signed, now the latest\n" in done.stdout
    assert key_of(app) not in done.stdout + done.stderr
    assert len(host.objects()) == len(before) + 2
    again = host.run("rekey", "--all", "--json", DB_RESTORE_AGE_PRIVATE_KEY=several)
    assert {one["status"] for one in json.loads(again.stdout)["backups"]} == {"unchanged"}
    rows = scene.rows(host.cluster, app)
    back = host.run("restore", "app", "db/app/", "--identity-fd", FD, secret=several)
    assert back.returncode == 0 and scene.rows(host.cluster, app) == rows, back
    assert host.run("backup").returncode == 0
    named = host.run("rekey", "db/app/latest-dump.json", "--dry-run")
    assert named.returncode == 0 and named.stdout == "1 need no rekey\n"


def test_a_rotation_as_the_guide_describes_it(host: Host, app: Database) -> None:
    """docs/keys.md: the recipients first, then the private keys, then the earlier backups."""
    old, new, rows = app, scene.entry("app"), scene.rows(host.cluster, app)

    def restores(*identities: Database) -> bool:
        secret = "\n".join(map(key_of, identities))
        done = host.run("restore", "app", "db/app/", "--identity-fd", FD, secret=secret)
        return done.returncode == 0 and scene.rows(host.cluster, app) == rows

    # 1. Both keys open what is backed up from now on.
    host.configure(dataclasses.replace(new, recipients=(*old.recipients, *new.recipients)))
    assert host.run("backup").returncode == 0
    assert restores(old) and restores(new)
    # 2. Whoever restores has both.
    assert restores(old, new) and restores(new, old)
    # 3. The old one counts no more, neither for new backups nor for earlier ones.
    host.configure(new)
    done = host.run("rekey", "--all", "--identity-fd", FD, secret=key_of(old))
    assert done.returncode == 0 and done.stdout.endswith("2 rekeyed\n"), done
    assert host.run("rekey", "--all", "--dry-run").stdout == "4 need no rekey\n"
    assert restores(new) and not restores(old)
    assert host.run("backup").returncode == 0 and restores(new)


def test_a_lost_key_and_escrow(host: Host, app: Database) -> None:
    """The database's key is lost; the escrow key opens its backups and makes a new one valid for them."""
    escrow, rows = scene.entry("escrow"), scene.rows(host.cluster, app)
    host.configure(dataclasses.replace(app, recipients=(*app.recipients, *escrow.recipients)))
    assert host.run("backup").returncode == 0
    new = scene.entry("app")
    host.configure(dataclasses.replace(new, recipients=(*new.recipients, *escrow.recipients)))
    done = host.run("rekey", "--all", "--identity-fd", FD, secret=key_of(escrow))
    # The first backup is older than the escrow key.
    assert done.returncode == 1 and done.stdout.endswith("1 rekeyed, 1 failed\n"), done
    assert f"is encrypted to {app.recipients[0]}; the given key belongs to {escrow.recipients[0]}" in done.stderr
    restored = host.run("restore", "app", "db/app/", "--identity-fd", FD, secret=key_of(new))
    assert restored.returncode == 0 and scene.rows(host.cluster, app) == rows


def test_the_controller_as_the_guide_sets_it_up(host: Host, tmp_path: pathlib.Path) -> None:
    """The commands of docs/keys.md, with a directory in place of the bucket."""
    shop, new, third = (scene.entry("shop") for _unused in range(3))
    scene.make(host.cluster, shop)
    scene.fill(host.cluster, shop)
    host.configure(shop)
    assert host.run("backup").returncode == 0
    text = (ROOT / "docs" / "keys.md").read_text()
    (block,) = re.findall(r"```shell\n( *mkdir -m 0700 rekey.*?)```", text, re.DOTALL)
    script = textwrap.dedent(block)
    for old, replacement in (
        ('DB_BACKUP_BUCKET="backups"', f'DB_BACKUP_DIRECTORY="{host.store}"'),
        ("age1...", new.recipients[0]),
    ):
        assert script.count(old) == 1
        script = script.replace(old, replacement)
    office = tmp_path / "office"
    office.mkdir()
    signers = host.root / "etc" / "allowed_signers"
    shutil.copy(signers, office)
    subprocess.run(["bash", "-euc", script], cwd=office, check=True, stdout=subprocess.DEVNULL)
    assert stat.S_IMODE((office / "rekey" / "db.env").stat().st_mode) == 0o600
    rekey = ["rekey", "--config", str(office / "rekey"), "--all", "--identity-fd", FD]
    done = command(*rekey, secret=key_of(shop))
    assert done.returncode == 0 and ", signed, now the latest\n1 rekeyed\n" in done.stdout, done

    # The host: first without, then with what the guide says to give it.
    refused = host.run("restore", "shop", "db/shop/", "--identity-fd", FD, secret=key_of(new))
    assert refused.returncode == 1 and "trust: " in refused.stderr
    shutil.copy(office / "allowed_signers", signers)
    with (host.root / "etc" / "db.env").open("a") as stream:
        stream.write(envfile.render({"DB_RESTORE_SIGNERS": '{"shop": ["office"]}'}))
    rows = scene.rows(host.cluster, shop)
    restored = host.run("restore", "shop", "db/shop/", "--identity-fd", FD, secret=key_of(new))
    assert restored.returncode == 0 and scene.rows(host.cluster, shop) == rows, restored
    more = host.run("backup", "--json")
    assert more.returncode == 0 and json.loads(more.stdout)["databases"][0]["sequence"] == 2
    # Without the controller's own name for the database it refuses before anything is stored.
    path = office / "rekey" / "db.env"
    path.write_text(path.read_text().replace(', \\"office\\"', "").replace(new.recipients[0], third.recipients[0]))
    unbound = command(*rekey, secret=f"{key_of(new)}\n{key_of(shop)}")
    assert unbound.returncode == 1 and 'infrazero_signers: {"shop": ["office"]}' in unbound.stderr, unbound


# The recovery kit -----------------------------------------------------------------------------------------------------

#: What a kit asks for, and nothing else.  gunzip is a script, which runs gzip.
TOOLS = ("age", "bash", "gunzip", "gzip", "sh", "ssh-keygen", "jq", "sha256sum")


@pytest.fixture
def path(tmp_path: pathlib.Path, cluster: Cluster) -> str:
    """A PATH of the tools of a kit alone."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, name
        (tools / name).symlink_to(found)
    (tools / "psql").symlink_to(cluster.bindir / "psql")
    return str(tools)


def steps(readme: str) -> list[str]:
    """The commands of a kit's steps, in their order, lines that belong together joined."""
    text = readme.partition("\nSTEPS\n")[2].partition("\nVERSIONS\n")[0].partition("\nTHE ROLES")[0]
    lines = [line[4:] for line in text.splitlines() if re.match(" {4}", line)]
    return re.sub(r"\\\n +", "", "\n".join(lines)).splitlines()


def follow(kit: pathlib.Path, path: str, cluster: Cluster, fetch: t.Callable[[int, str], None]) -> str:
    """Type each command of the kit into one bash, and fetch what it says; what is printed comes back.

    :param fetch: is called with the number of a key that was printed, and the key.
    """
    environment = {"PATH": path, "PGHOST": cluster.host, "PGPORT": str(cluster.port), "PGUSER": "postgres"}
    shell = subprocess.Popen(
        ["bash", "--norc", "-e"],
        cwd=kit,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    )
    assert shell.stdin is not None and shell.stdout is not None
    printed, fetched = [], 0
    for number, line in enumerate(steps((kit / "README.txt").read_text())):
        shell.stdin.write(f"{line}\nprintf '\\ndone {number}\\n'\n")
        answer = []
        while not (answer and answer[-1] == f"done {number}\n"):
            answer.append(shell.stdout.readline())
            if not answer[-1]:
                raise AssertionError(f"{line}: {''.join(printed + answer)}")
        printed += answer[:-2]
        if "latest-dump.json" in line or line == "jq -r .key manifest.json":
            fetch(fetched, answer[0].strip())
            fetched += 1
    shell.stdin.close()
    assert shell.wait() == 0
    shell.stdout.close()
    return "".join(printed)


def test_a_kit_restores_every_row_without_our_code(
    host: Host, app: Database, fresh_cluster: Cluster, path: str, tmp_path: pathlib.Path
) -> None:
    kit = tmp_path / "kit"
    made = host.run("recovery-kit", str(kit))
    assert made.returncode == 0, made
    assert stat.S_IMODE(kit.stat().st_mode) == 0o700
    every = [file for file in kit.rglob("*") if file.is_file()]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in every)
    text = b"".join(file.read_bytes() for file in every)
    for secret in (key_of(app), app.password.reveal(), "AGE-SECRET-KEY-1Q", "PRIVATE KEY"):
        assert secret.encode() not in text
    assert (host.root / "etc" / "allowed_signers").read_text() == (kit / "allowed_signers").read_text()
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", host.root / "etc" / "signing" / "id_ed25519.pub"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[1]
    assert (kit / "fingerprints.txt").read_text() == f"{fingerprint} ssh-ed25519 db1\n"
    for line in (app.recipients[0], "app", "signed by db1", "infrazero.database: 0.", "psql (PostgreSQL)"):
        assert line in (kit / "README.txt").read_text(), line

    (kit / "key.txt").write_text(key_of(app) + "\n")

    def fetch(number: int, key: str) -> None:
        shutil.copy(host.store / key, kit / ("manifest.json", "dump.age")[number])

    printed = follow(kit, path, fresh_cluster, fetch)
    for line in ("This key opens the backups of the database app.", "dump.age: OK", "true", "Good "):
        assert line in printed, printed
    assert scene.rows(fresh_cluster, app) == scene.rows(host.cluster, app)
    assert (kit / "rows.txt").read_text().count("|t\n") == len(scene.rows(host.cluster, app))
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'app'"
    assert fresh_cluster.psql(owner) == "app"


@pytest.mark.parametrize("what", ["the object", "a field", "the signer", "another database"])
def test_a_kit_stops_at_what_is_not_ours(
    host: Host, app: Database, path: str, tmp_path: pathlib.Path, what: str
) -> None:
    kit = tmp_path / "kit"
    assert host.run("recovery-kit", str(kit)).returncode == 0
    (kit / "key.txt").write_text(key_of(app) + "\n")
    mallory = dataclasses.replace(SigningHost.make(tmp_path, "mallory"), name="db1")

    def fetch(number: int, key: str) -> None:
        data = (host.store / key).read_bytes()
        if number == 0 and what != "the object":
            fields = json.loads(data)
            bare = {name: value for name, value in fields.items() if name != "signature"}
            if what == "a field":
                fields["sequence"] += 1
            elif what == "another database":
                fields["postgresql"]["database"] = "blog"
            else:
                fields = manifests.signed(mallory, bare)
            data = json.dumps(fields).encode()
        (kit / ("manifest.json", "dump.age")[number]).write_bytes(
            data + (b"x" if number and what == "the object" else b"")
        )

    oid = "SELECT oid FROM pg_database WHERE datname = 'app'"
    before = host.cluster.psql(oid)
    with pytest.raises(AssertionError):
        follow(kit, path, host.cluster, fetch)
    assert host.cluster.psql(oid) == before and not (kit / "create.sql").exists()


def test_a_kit_with_private_keys(host: Host, app: Database, tmp_path: pathlib.Path) -> None:
    kit, secret = tmp_path / "kit", f"# of app\n{key_of(app)}\n"
    with_keys = ["recovery-kit", str(kit), "--include-identities", "--identity-fd", FD]
    for phrase, arguments in (("too short\n", ["--passphrase-fd", PHRASE_FD]), (None, [])):
        refused = host.run(*with_keys, *arguments, secret=secret, phrase=phrase)
        assert refused.returncode == 2 and "passphrase" in refused.stderr and not kit.exists(), refused
    phrase = "correct horse battery staple"
    made = host.run(*with_keys, "--passphrase-fd", PHRASE_FD, secret=secret, phrase=phrase)
    assert made.returncode == 0, made
    assert made.stderr == "warning: no given key opens the backups of blog\n"
    assert key_of(app).encode() not in b"".join(file.read_bytes() for file in kit.rglob("*") if file.is_file())
    opened = typed(["age", "-d", str(kit / "identities.age")], phrase)
    assert key_of(app) in opened
    # A kit is never mixed with what is there.
    again = host.run("recovery-kit", str(kit))
    assert again.returncode == 2 and "exists already" in again.stderr
    for place in (tmp_path / "link", tmp_path / "missing" / "kit"):
        if place.name == "link":
            place.symlink_to(tmp_path / "nowhere")
        assert host.run("recovery-kit", str(place)).returncode == 2


def typed(argv: list[str], answer: str) -> str:
    """What a program shows on a terminal where *answer* is typed."""
    pid, terminal = pty.fork()
    if not pid:
        os.execvp(argv[0], argv)
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
        if b"passphrase" in shown and answer:
            os.write(terminal, answer.encode() + b"\n")
            answer = ""
    os.waitpid(pid, 0)
    return shown.decode()
