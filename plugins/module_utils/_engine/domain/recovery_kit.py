# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The files of a recovery kit: everything but a private key that restores databases without this collection.

docs/formats/recovery-kit.md describes them.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import typing as t

from ..printing import printable
from . import allowed_signers, human, trust
from .manifest import GLOBALS
from .subjects import Subject

#: Names of files that are the same in every kit.
README = "README.txt"
DATABASES = "databases.json"
SIGNERS = "allowed_signers"
REVOKED = "revoked_keys"
FINGERPRINTS = "fingerprints.txt"
CREATE = "create.jq"
COUNT = "count.jq"
IDENTITIES = "identities.age"
PROOFS = "proofs"

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")

#: Writes the statements that create the roles and the database of a manifest.
_CREATE = r"""
def name: "\"" + gsub("\""; "\"\"") + "\"";
def text: "'" + gsub("'"; "''") + "'";
($kit[0][] | select(.name == $database)) as $entry |
(.postgresql // .) as $p |
"CREATE ROLE " + ($entry.user | name) + " LOGIN;",
($p.roles[]? | select(. != $entry.user) | "CREATE ROLE " + name + ";"),
"CREATE DATABASE " + ($database | name) + " OWNER " + ($entry.user | name) + " TEMPLATE template0 ENCODING "
  + ($p.encoding | text) + " LC_COLLATE " + ($p.collate | text) + " LC_CTYPE " + ($p.ctype | text)
  + (if $p.locale_provider == "icu" then " LOCALE_PROVIDER icu ICU_LOCALE " + ($p.icu_locale | text)
     elif $p.locale_provider == "builtin" then " LOCALE_PROVIDER builtin BUILTIN_LOCALE " + ($p.icu_locale | text)
     else "" end)
  + (if $p.icu_rules then " ICU_RULES " + ($p.icu_rules | text) else "" end) + ";"
"""

#: Writes a statement for each table of a manifest, which prints its name and whether it has as many rows.
_COUNT = r"""
def text: "'" + gsub("'"; "''") + "'";
(.postgresql // .).tables[] | "SELECT " + (.name | text) + ", count(*) = \(.rows) FROM ONLY " + .name + ";"
"""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a kit is made from.

    :param subjects: the databases, and the globals of the cluster.
    :param trust: whose backups are accepted.
    :param location: of the store, as the store describes itself.
    :param endpoint: URL of an S3 server that is not Amazon's.
    :param versions: of programs, by name.
    :param identities: whether a file with private keys belongs to the kit.
    """

    subjects: tuple[Subject, ...]
    trust: trust.Trust
    location: str
    endpoint: str | None
    created_at: datetime.datetime
    versions: t.Mapping[str, str]
    identities: bool


def proof_name(number: int, subject: Subject) -> str:
    """The name of the file that proves a key of *subject*, the *number*-th of the kit."""
    return f"{PROOFS}/{number}-{subject.name}.age" if _SAFE.match(subject.name) else f"{PROOFS}/{number}.age"


def proof_text(subject: Subject) -> str:
    """What a proof contains."""
    what = "the cluster's roles" if subject.kind == GLOBALS else f"the database {printable(subject.name)}"
    return f"This key opens the backups of {what}.\n"


def files(facts: Facts) -> dict[str, str]:
    """The files of a kit that are text, by name."""
    rows = [_entry(number, subject, facts) for number, subject in enumerate(facts.subjects, 1)]
    signers = _signers(facts.trust)
    found = {
        README: _readme(facts, rows),
        # In ASCII, which every printer has.
        DATABASES: json.dumps(rows, indent=1) + "\n",
        SIGNERS: signers,
        REVOKED: facts.trust.revoked_keys,
        FINGERPRINTS: "".join(_fingerprints(signers)),
        CREATE: _CREATE.lstrip(),
        COUNT: _COUNT.lstrip(),
    }
    return {name: text for name, text in found.items() if text or name != REVOKED}


def _entry(number: int, subject: Subject, facts: Facts) -> dict[str, t.Any]:
    known = facts.trust if facts.trust.own_key else dataclasses.replace(facts.trust, name=None)
    accepted = trust.accepted_names(
        dataclasses.replace(known, once=()), database=subject, key=subject.prefix + "latest-dump.json"
    )
    return {
        "name": subject.name,
        "user": getattr(subject, "user", None),
        "prefix": subject.prefix,
        "recipients": list(subject.recipients),
        "signers": list(accepted),
        "proof": proof_name(number, subject),
    }


def _signers(known: trust.Trust) -> str:
    """The trusted keys, the one of this host included, which needs no line on the host itself."""
    text = known.allowed_signers
    if known.own_key and known.name and known.own_key.split()[1] not in text.split():
        text += ("" if not text or text.endswith("\n") else "\n") + trust.signers_line(known.name, known.own_key) + "\n"
    return text


def _fingerprints(signers: str) -> t.Iterator[str]:
    for line in signers.splitlines():
        entry = allowed_signers.read(line)
        if entry is not None:
            words = line[entry.key_start :].split()
            yield f"{trust.fingerprint(words[1])} {words[0]} {printable(entry.names)}\n"


# The text for people --------------------------------------------------------------------------------------------------


def _readme(facts: Facts, rows: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    databases = [row for row in rows if row["user"] is not None]
    example = databases[0]["name"] if databases else "NAME"
    word = example if _SAFE.match(example) else "'NAME'"
    lines = [_INTRODUCTION.format(moment=facts.created_at, version=facts.versions["infrazero.database"])]
    lines += [f"  {printable(row['name'])}\n{_described(row)}" for row in rows]
    place = f" at {printable(facts.endpoint)}" if facts.endpoint else ""
    key = _KEY_IN_KIT if facts.identities else _KEY_ELSEWHERE
    revoked = f" -r {REVOKED}" if facts.trust.revoked_keys else ""
    steps = _STEPS.replace("@DATABASE@", word).replace("@STORE@", printable(facts.location) + place)
    lines.append(steps.replace("@KEY@", key).replace("@REVOKED@", revoked))
    if any(row["user"] is None for row in rows):
        lines.append(_ROLES)
    lines.append("VERSIONS\n\nThis kit was created with\n")
    lines += [f"  {name}: {printable(text)}" for name, text in facts.versions.items()]
    return "\n".join(lines) + "\n"


def _described(row: t.Mapping[str, t.Any]) -> str:
    signers = ", ".join(map(printable, row["signers"])) or "nobody: see allowed_signers"
    keys = "\n".join(f"      {printable(one)}" for one in row["recipients"])
    count = human.counted(len(row["recipients"]), "key")
    return f"    backups below {printable(row['prefix'])}, signed by {signers}\n    opened by {count}:\n{keys}"


_INTRODUCTION = """\
RECOVERY KIT

Created {moment:%Y-%m-%d %H:%M} UTC with infrazero.database {version}.

With this directory, a private key and the backups, the databases below can be
restored on any machine, without the software that backed them up. Print this
file, or keep the directory in a safe, and try it once a year.

You need bash and: age, gunzip, psql, ssh-keygen, jq, sha256sum (Debian: the
packages age, gzip, postgresql-client, openssh-client, jq, coreutils), a
PostgreSQL server in which you are superuser, and a way to read the store.

Nothing in here is secret, except identities.age if it is there.

DATABASES
"""

_KEY_ELSEWHERE = """\
   The private keys are not in this kit. Put the one of the database (a line
   that begins with AGE-SECRET-KEY-1, or several) into the file key.txt."""

_KEY_IN_KIT = """\
   The private keys are in identities.age. This asks for the passphrase:

    age -d identities.age >key.txt"""

_STEPS = f"""
STEPS

Run the commands in this directory, in one bash, and stop if one fails.

1. Choose the database, and prove the key.

@KEY@

    umask 077
    set -o pipefail
    database=@DATABASE@
    jq -e -r --arg d "$database" '.[] | select(.name == $d) | .proof' {DATABASES} >proof.txt
    age -d -i key.txt "$(<proof.txt)"

   It prints "This key opens the backups of ...".

2. Fetch the newest backup from the store: @STORE@

   This prints the key of its manifest. Fetch that object as manifest.json:

    jq -r --arg d "$database" '.[] | select(.name == $d) | .prefix + "latest-dump.json"' {DATABASES}

   This prints the key of the backup itself. Fetch that object as dump.age:

    jq -r .key manifest.json

   If the newest backup is not the one you want, take any other file that ends
   with .manifest.json below the prefix as manifest.json.

3. Check that one of your hosts made it, and that nobody changed it.

    signer=$(jq -r .host manifest.json)
    jq -e --arg d "$database" --arg s "$signer" 'any(.[]; .name == $d and (.signers | index($s)))' {DATABASES}
    jq -e --arg d "$database" '(.postgresql // .).database == $d' manifest.json
    jq -r .signature manifest.json >manifest.sig
    moment=$(jq -r '.created_at | gsub("[-:TZ]"; "")' manifest.json)
    jq -cjS 'del(.signature)' manifest.json | TZ=UTC0 ssh-keygen -Y verify -f {SIGNERS}@REVOKED@ \\
        -I "$signer" -n {trust.NAMESPACE} -O "verify-time=$moment" -s manifest.sig
    printf '%s  dump.age\\n' "$(jq -r .sha256 manifest.json)" | sha256sum --check

   They print true, true, "Good ... signature", and "dump.age: OK". A backup
   without a signature may be anybody's: restore it only if you know where it
   comes from. If "jq .rekeyed manifest.json" prints more than null, the backup
   was encrypted anew; its manifest before that, which has a signature of its
   own, is printed by
   jq -cjS '(del(.rekeyed) + .rekeyed.manifest) | with_entries(select(.value != null))' manifest.json

4. Create the roles and the database. Roles that exist cause errors, which do
   no harm. PostgreSQL must not be older than the version that the first
   command prints. Set the usual PGHOST, PGPORT and PGUSER before.

    jq -r '(.postgresql // .).server_version' manifest.json
    jq -r --arg database "$database" --slurpfile kit {DATABASES} -f {CREATE} manifest.json >create.sql
    psql -X -d postgres -f create.sql

5. Restore. psql obeys what a dump contains, as a superuser, so do this only
   with a backup that has passed step 3, with a current psql, on a server that
   has no other tenants. A backup that ends with .zst.age needs zstd -d in place
   of gunzip.

    age -d -i key.txt dump.age | gunzip | psql -X -q -v ON_ERROR_STOP=1 -d "$database" >restore.log

6. Compare the rows with the manifest. Each line ends with t.

    jq -r -f {COUNT} manifest.json >count.sql
    psql -X -A -t -v ON_ERROR_STOP=1 -d "$database" -f count.sql >rows.txt
    jq -e -R -s 'split("\\n") | map(select(. != "")) | all(endswith("|t"))' rows.txt

   It prints true. Then set the password of the database's user (\\password in
   psql), and remove key.txt.
"""

_ROLES = """\
THE ROLES OF THE CLUSTER

Their backups are text for psql, too. To apply one, fetch and check it as above
(its name is "cluster globals"), then, before step 4:

    age -d -i key.txt dump.age | gunzip | psql -X -d postgres
"""
