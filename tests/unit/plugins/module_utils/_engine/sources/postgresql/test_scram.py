# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import scram
from hypothesis import given, settings
from hypothesis import strategies as st

# The example of RFC 7677, section 3: user "user", password "pencil"; its server signature proves the keys.
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def test_verifier_is_that_of_the_rfc_example():
    import hashlib
    import hmac

    stored = scram.verifier(Secret("pencil"), salt=RFC_SALT, iterations=4096)
    prefix, salt, keys = stored.split("$")
    assert (prefix, salt) == ("SCRAM-SHA-256", "4096:W22ZaJ0SNY7soEsUEjb6gQ==")
    server_key = base64.b64decode(keys.split(":")[1])
    message = (
        "n=user,r=rOprNGfwEbeRWgbNEkqO,"
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    signature = hmac.new(server_key, message.encode(), hashlib.sha256).digest()
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_each_verifier_has_its_own_salt():
    assert scram.verifier(Secret("x")) != scram.verifier(Secret("x"))


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=1).filter(lambda text: "\0" not in text and text.isprintable()))
def test_a_verifier_matches_its_password_and_no_other(text):
    stored = scram.verifier(Secret(text), iterations=1)
    assert scram.matches(stored, Secret(text))
    assert not scram.matches(stored, Secret(text + "x"))


def test_iterations_and_salt_of_the_stored_verifier_count():
    assert scram.matches(scram.verifier(Secret("x"), salt=b"short", iterations=7), Secret("x"))


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        "x",
        "md5" + "0" * 32,
        "SCRAM-SHA-256$",
        "SCRAM-SHA-256$0:AAAA$" + "A" * 43 + "=:" + "A" * 43 + "=",
        "SCRAM-SHA-256$1:A$" + "A" * 43 + "=:" + "A" * 43 + "=",
        "SCRAM-SHA-256$1:AAAA$" + "A" * 43 + "=:" + "A" * 43 + "=\n",
    ],
)
def test_what_is_no_verifier_matches_nothing(stored):
    assert not scram.matches(stored, Secret("x"))
    assert not scram.matches(stored, Secret(stored or "x"))


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("a\u00a0b", "a b"),  # another space is a space
        ("a\u200bb", "a b"),  # ... also the one that has no width, which other readings drop
        ("I\u00adX", "IX"),  # the soft hyphen goes (RFC 4013)
        ("\u00aa", "a"),  # compatibility forms (RFC 4013)
        ("\u2168", "IX"),
        ("e\u0301", "\u00e9"),
        ("\u0627\u0628", "\u0627\u0628"),
        # What SASLprep refuses is taken as it is.
        ("\u0627\u00311", "\u0627\u00311"),
        ("\u0627x\u0628", "\u0627x\u0628"),
        ("\u00ad", "\u00ad"),
        ("e\u0301\u0007", "e\u0301\u0007"),
        ("e\u0301\ue000", "e\u0301\ue000"),
        ("e\u0301\U0001f600", "e\u0301\U0001f600"),  # not in Unicode 3.2
        # ASCII is never looked at.
        ("a\x07b", "a\x07b"),
    ],
)
def test_saslprep_is_that_of_postgresql(text, prepared):
    assert scram.saslprep(text) == prepared.encode()


def credentials(**changes):
    stored = {"ann": "verifier of ann", "bob": "verifier of bob", **changes}
    return [scram.Credential(user, Secret(f"password of {user}"), text) for user, text in stored.items()]


def test_proof_holds_for_the_same_credentials_in_any_order():
    assert scram.proves(scram.proof(credentials()), credentials())
    assert scram.proves(scram.proof(credentials()), list(reversed(credentials())))


def test_proof_fails_for_anything_else():
    proof = scram.proof(credentials())
    assert not scram.proves(proof, credentials(ann="another verifier"))
    assert not scram.proves(proof, credentials(eve="verifier of eve"))
    assert not scram.proves(proof, credentials()[:1])
    assert not scram.proves(proof, [*credentials()[:1], scram.Credential("bob", Secret("guess"), "verifier of bob")])


def test_fields_of_a_proof_do_not_run_into_each_other():
    proof = scram.proof([scram.Credential("ab", Secret("c"), "d")])
    assert not scram.proves(proof, [scram.Credential("a", Secret("bc"), "d")])


@pytest.mark.parametrize("text", [None, "", ":", "$$:x", "AAAA:AAAA", "not a proof"])
def test_what_is_no_proof_proves_nothing(text):
    assert not scram.proves(text, credentials())
    assert not scram.proves(text, [])


def test_a_guess_at_a_proof_costs_what_the_strongest_verifier_costs(monkeypatch):
    seen = []
    real = hashlib.pbkdf2_hmac

    def spy(name, password, salt, iterations):
        seen.append(iterations)
        return real(name, password, salt, 1)

    strong = scram.verifier(Secret("x"), iterations=9000)
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", spy)
    scram.proof(credentials())
    scram.proof(credentials(ann=strong))
    assert seen == [4096, 9000]
