# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys leave the files that brought them, in whatever layers, and nothing else changes."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import textwrap
import typing as t
import xml.etree.ElementTree

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._scrub import CantScrub, Scrubber
from hypothesis import given
from hypothesis import strategies as st

NAME = "DATABASES_JSON_PRIVATE_B64"
KEY = "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" + "QPZRY9X8GF2TVDW0S3JN54KHCE"
LIST = [{"name": "app", "user": "app", "password": "pass word", "backup_age_private_key": KEY}]
LIST_B64 = base64.b64encode(json.dumps(LIST).encode()).decode()


def scrub(data: bytes, *secrets: str) -> bytes:
    return Scrubber([NAME], secrets).scrub(data)


@pytest.mark.parametrize(
    "value",
    [
        LIST_B64,
        f'"{LIST_B64}"',
        f"'{LIST_B64}'",
        "\"one\"'two'three",
        "'" + "\n".join(textwrap.wrap(LIST_B64, 76)) + "'",
        '"' + "\n".join(textwrap.wrap(LIST_B64, 76)) + '"',
        "one\\\ntwo",
        f'"{LIST_B64}" # the keys',
        f'"{LIST_B64}',
        "",
        '"a\\"b"',
        "$'a'",
    ],
)
def test_the_line_becomes_the_one_of_the_contract(value: str) -> None:
    script = f"#!/bin/sh\nset -eu\n  export {NAME}={value}\nexport OTHER='kept'\n"
    if value.count('"') == 1:  # a quote that is never closed goes on to the end of the line
        script = script.replace("'kept'", "kept")
    scrubbed = scrub(script.encode()).decode()
    assert scrubbed.startswith(f'#!/bin/sh\nset -eu\n  export {NAME}=""\nexport OTHER=')
    assert "kept" in scrubbed
    assert scrub(scrubbed.encode()).decode() == scrubbed


@pytest.mark.parametrize(
    "line",
    [
        f"sed -i 's/^export {NAME}=.*/export {NAME}=\"\"/' run.sh",
        f'if [ -n "${{{NAME}:-}}" ]; then echo restore; fi',
        f"export NOT_{NAME}=kept",
        f"export {NAME}_TOO=kept",
        "certificate: " + base64.b64encode(b"just a certificate, nothing else to see in here").decode(),
        "# AGE-SECRET-KEY-1 is how they begin",
    ],
)
def test_everything_else_stays(line: str) -> None:
    assert scrub(line.encode()) == line.encode()


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


def wrapped(data: bytes) -> bytes:
    return b"\n".join(b"      " + line.encode() for line in textwrap.wrap(base64.b64encode(data).decode(), 60))


SCRIPT = f'#!/bin/sh\nexport {NAME}="{LIST_B64}"\n/opt/infrazero/bootstrap/next.sh\n'.encode()


@pytest.mark.parametrize(
    "layers", [[], [b64], [gzip.compress], [gzip.compress, b64], [wrapped], [b64, b64], [gzip.compress, wrapped]]
)
def test_keys_in_layers(layers: list) -> None:
    inner = SCRIPT
    for layer in layers:
        inner = layer(inner)
    before, after = b"write_files:\n- content: |\n", b"\nruncmd:\n- reboot\n"
    if layers == [gzip.compress]:
        before = after = b""
    document = before + inner + after
    scrubbed = scrub(document)
    assert scrubbed.startswith(before)
    assert scrubbed.endswith(after)
    scrubbed = scrubbed[len(before) : len(scrubbed) - len(after)]
    for layer in reversed(layers):
        scrubbed = gzip.decompress(scrubbed) if layer is gzip.compress else base64.b64decode(b"".join(scrubbed.split()))
    assert scrubbed.decode() == f'#!/bin/sh\nexport {NAME}=""\n/opt/infrazero/bootstrap/next.sh\n'
    assert scrub(document) == scrub(scrub(document))


#: As Azure hands it to a host, and its agent and cloud-init keep it.
OVF_ENV = """\
<?xml version="1.0" encoding="utf-8"?>
<ns0:Environment xmlns:ns0="http://schemas.dmtf.org/ovf/environment/1"
    xmlns:ns1="http://schemas.microsoft.com/windowsazure" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <ns1:ProvisioningSection>
    <ns1:Version>1.0</ns1:Version>
    <ns1:LinuxProvisioningConfigurationSet>
      <ns1:ConfigurationSetType>LinuxProvisioningConfiguration</ns1:ConfigurationSetType>
      <ns1:HostName>db1</ns1:HostName>
      <ns1:UserName>azureuser</ns1:UserName>
      <ns1:UserPassword>REDACTED</ns1:UserPassword>
      <ns1:DisableSshPasswordAuthentication>true</ns1:DisableSshPasswordAuthentication>
      <ns1:CustomData>{custom_data}</ns1:CustomData>
      <ns1:SSH><ns1:PublicKeys><ns1:PublicKey>
        <ns1:Fingerprint>6BE7A7C3C8A8F4B123CCA5D0C2F1BE4CA7B63ED7</ns1:Fingerprint>
        <ns1:Path>/home/azureuser/.ssh/authorized_keys</ns1:Path>
        <ns1:Value>ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7vbqajDw4o6gJy8Ul2oYF2w4QpkwFxEyOPvBcVh4j= u@h</ns1:Value>
      </ns1:PublicKey></ns1:PublicKeys></ns1:SSH>
    </ns1:LinuxProvisioningConfigurationSet>
  </ns1:ProvisioningSection>
  <ns1:PlatformSettingsSection><ns1:Version>1.0</ns1:Version><ns1:PlatformSettings>
    <ns1:KmsServerHostname>kms.core.windows.net</ns1:KmsServerHostname><ns1:ProvisionGuestAgent>true</ns1:ProvisionGuestAgent>
  </ns1:PlatformSettings></ns1:PlatformSettingsSection>
</ns0:Environment>
"""
_PACKED = base64.b64encode(gzip.compress(SCRIPT)).decode()
USER_DATA = f"""\
#cloud-config
write_files:
- path: /opt/infrazero/bootstrap/run.sh
  encoding: gz+b64
  content: {_PACKED}
- path: /opt/infrazero/bootstrap/plain.sh
  content: |
    export {NAME}="{LIST_B64}"
runcmd: [/opt/infrazero/bootstrap/run.sh]
""".encode()


def as_references(text: str) -> str:
    return text.replace("+", "&#43;").replace("/", "&#x2F;").replace("=", "&#61;")


@pytest.mark.parametrize(
    "written",
    [
        str,
        lambda text: f"\n        {text}\n      ",
        lambda text: "\n".join(textwrap.wrap(text, 76)),
        lambda text: "\r\n".join(textwrap.wrap(text, 31)),
        lambda text: f"{text[:9]}\n   {text[9:]}",
        as_references,
        lambda text: "&#10;".join(map(as_references, textwrap.wrap(text, 76))),
        lambda text: f"<![CDATA[{text}]]>",
    ],
    ids=["one line", "indented", "wrapped", "wrapped short", "broken", "references", "wrapped references", "CDATA"],
)
@pytest.mark.parametrize("packed", [lambda data: data, gzip.compress], ids=["plain", "gzip"])
def test_custom_data_of_azure(written: t.Callable[[str], str], packed: t.Callable[[bytes], bytes]) -> None:
    encoded = base64.b64encode(packed(USER_DATA)).decode()
    document = OVF_ENV.format(custom_data=written(encoded)).encode()
    scrubbed = scrub(document)
    before, after = (xml.etree.ElementTree.fromstring(text) for text in (document, scrubbed))
    assert [node.tag for node in before.iter()] == [node.tag for node in after.iter()]
    custom_data = ""
    for old, new in zip(before.iter(), after.iter()):
        if new.tag.endswith("CustomData"):
            custom_data = new.text or ""
        else:
            assert (old.text, old.attrib) == (new.text, new.attrib)
    inner = base64.b64decode("".join(custom_data.split()), validate=True)
    text = (gzip.decompress(inner) if packed is gzip.compress else inner).decode()
    assert f'    export {NAME}=""\n' in text and text.endswith("runcmd: [/opt/infrazero/bootstrap/run.sh]\n")
    (script,) = (line for line in text.splitlines() if line.startswith("  content: H4sI"))
    assert gzip.decompress(base64.b64decode(script.split()[1])) == SCRIPT.replace(LIST_B64.encode(), b"")
    assert scrub(scrubbed) == scrubbed


def test_custom_data_without_a_secret_stays() -> None:
    encoded = as_references(base64.b64encode(b"#!/bin/sh\n# " + b"nothing to see " * 20).decode())
    document = OVF_ENV.format(custom_data=encoded).encode()
    assert scrub(document) == document


def test_xml_among_bytes_that_are_counted_keeps_its_length() -> None:
    encoded = as_references(base64.b64encode(USER_DATA).decode())
    document = b"\0" + OVF_ENV.format(custom_data=encoded).encode()
    scrubbed = scrub(document)
    assert len(scrubbed) == len(document)
    custom_data = xml.etree.ElementTree.fromstring(scrubbed[1:]).findtext(".//{*}CustomData") or ""
    assert LIST_B64.encode() not in base64.b64decode("".join(custom_data.split()), validate=True)


def test_a_list_under_another_name_loses_its_keys() -> None:
    scrubbed = scrub(f'{{"payload": "{LIST_B64}"}}'.encode())
    document = json.loads(base64.b64decode(json.loads(scrubbed)["payload"]))
    assert document == [{**LIST[0], "backup_age_private_key": ""}]


def test_given_secrets_go_also_as_json_has_them() -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END OPENSSH PRIVATE KEY-----"
    assert scrub(json.dumps({"key": key, "other": 1}).encode(), key) == b'{"key": "", "other": 1}'
    assert scrub(f"a {key} b".encode(), key) == b"a  b"


def test_an_empty_secret_is_none() -> None:
    assert scrub(b"a b\n", "", " ") == b"a b\n"


@pytest.mark.parametrize("wrap", [lambda x: x, b64, gzip.compress, lambda x: b64(gzip.compress(x))])
def test_a_pickle_can_still_be_read(wrap: object) -> None:
    userdata = wrap(SCRIPT)  # type: ignore[operator]
    stored = pickle.dumps({"userdata_raw": userdata, "number": 300, "text": "x" * 300})
    scrubbed = scrub(stored)
    assert len(scrubbed) == len(stored)
    loaded = pickle.loads(scrubbed)
    assert (loaded["number"], loaded["text"]) == (300, "x" * 300)
    text = loaded["userdata_raw"]
    if wrap(b"") != b"":  # type: ignore[operator]
        text = gzip.decompress(base64.b64decode(text) if text.isascii() else text)
    elif not text.startswith(b"#!"):
        text = base64.b64decode(text)
    assert f'export {NAME}=""'.encode() in text
    assert LIST_B64.encode() not in text


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_key_survives_and_a_second_time_changes_nothing(before: bytes, after: bytes) -> None:
    data = before + b"\n" + KEY.encode() + b"\n" + after
    try:
        scrubbed = scrub(data)
    except CantScrub:
        return
    assert KEY.encode() not in scrubbed
    assert scrub(scrubbed) == scrubbed


@given(st.binary(max_size=600))
def test_what_holds_no_secret_is_left_alone(data: bytes) -> None:
    assert scrub(data) == data
