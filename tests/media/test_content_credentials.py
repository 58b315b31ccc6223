"""Content credentials: what the official library reads of each file that can have them, and which pairs are refused."""

import base64
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fixtures.media import IMAGE, VIDEO, moving_circle, noise
from tests.support.certificates import write_key, write_signing_pair, write_web_pair
from tests.support.content_credentials import credentials_of
from tests.support.marks import TRAINED, source_type
from tests.support.videos import read_frames, write_video
from wan_mcp.errors import UserError
from wan_mcp.media.content_credentials import ContentCredentials
from wan_mcp.media.conversion import convert
from wan_mcp.media.images import write_image
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import CONVERSIONS, MIME_TYPES, MediaStore
from wan_mcp.settings import Settings

EC_PARAMETERS = """\
-----BEGIN EC PARAMETERS-----
BgUrgQQAIg==
-----END EC PARAMETERS-----
"""
"""What `openssl ecparam -genkey` writes before a P-384 key."""
P_256, PRIME_239_V3 = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030106")
"""Object identifiers of two curves; the library of keys does not know the second."""
RECEIPT = {"request": {"prompt": "“ö” 😀; a = b\n", "seed": 7}}


@pytest.fixture
def own(tmp_path: Path) -> ContentCredentials:
    return ContentCredentials(*write_signing_pair(tmp_path, "own"))


def test_results_and_their_conversions_are_signed_and_say_otherwise_what_they_said(
    media: MediaStore, own: ContentCredentials
) -> None:
    write_image(media, IMAGE, noise(1)[0], RECEIPT, 7)
    write_video(media, VIDEO, moving_circle(5), 8, RECEIPT, 7)
    frames = read_frames(media.path(VIDEO))
    for name in (IMAGE, VIDEO):
        file, media_type = media.path(name), MIME_TYPES[name.kind]
        unsigned = file.with_name("unsigned")
        assert credentials_of(file, media_type) is None
        assert convert(file, unsigned, next(iter(CONVERSIONS[name.kind])), own) is None
        found = credentials_of(unsigned, next(iter(CONVERSIONS[name.kind].values())))
        assert found is not None
        assert (found["actions"], found["types"], found["parents"]) == (["c2pa.created"], [TRAINED], [])
        file.write_bytes(own.signed(file, media_type, "a-model"))
        found = credentials_of(file, media_type)
        assert found is not None
        assert (found["actions"], found["types"], found["models"]) == (["c2pa.created"], [TRAINED], ["a-model"])
        assert found["signer"] == "own"
        assert source_type(file) == TRAINED
        assert read_receipt(file) == RECEIPT
        for ending, of_conversion in CONVERSIONS[name.kind].items():
            target = file.with_suffix(ending)
            note = convert(file, target, ending, own)
            assert TRAINED.encode() in target.read_bytes()
            assert read_receipt(target) == RECEIPT
            if ending == ".webm":
                assert note == "not signed with content credentials: C2PA has no place in .webm files"
                continue
            assert note is None
            found = credentials_of(target, of_conversion)
            assert found is not None
            assert (found["actions"], found["parents"]) == (["c2pa.opened", "c2pa.transcoded"], ["parentOf"])
            assert name.job_id not in found["text"]  # who has the file must not know where the result is
    assert np.array_equal(read_frames(media.path(VIDEO)), frames)


def test_a_conversion_that_cannot_be_signed_is_made_with_a_note(
    media: MediaStore, own: ContentCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(media, IMAGE, noise(1)[0], RECEIPT, 7)
    own.key.unlink()
    target = media.home / "result.jpg"
    note = convert(media.path(IMAGE), target, ".jpg", own)
    assert note is not None
    assert "not signed" in note
    assert "cannot be read" in note
    assert read_receipt(target) == RECEIPT

    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("a defect of the library\nin two lines")

    monkeypatch.setattr(ContentCredentials, "signed", fail)
    note = convert(media.path(IMAGE), target, ".jpg", own)
    assert note == "not signed with content credentials: RuntimeError: a defect of the library"
    assert read_receipt(target) == RECEIPT


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
    ],
    ids=["P-384", "P-521", "RSA", "Ed25519"],
)
def test_each_kind_of_key_that_c2pa_allows_signs(
    tmp_path: Path, make: Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey]
) -> None:
    credentials = ContentCredentials(*write_signing_pair(tmp_path, "own", make()))
    assert credentials.require_usable() == credentials.fingerprint()


@pytest.mark.parametrize(
    ("make", "before"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), ""),
        (lambda: ec.generate_private_key(ec.SECP384R1()), EC_PARAMETERS),
        (lambda: rsa.generate_private_key(65537, 2048), ""),
    ],
    ids=["EC", "EC with its curve", "RSA"],
)
def test_a_key_in_the_older_form_of_openssl_signs_also_from_one_file_with_its_certificate(
    tmp_path: Path, make: Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey], before: str
) -> None:
    older = serialization.PrivateFormat.TraditionalOpenSSL
    certificate, key = write_signing_pair(tmp_path, "own", make(), form=older)
    key.write_text(before + key.read_text())
    fingerprint = ContentCredentials(certificate, key).require_usable()
    key.write_text(key.read_text() + certificate.read_text())
    assert ContentCredentials(key, key).require_usable() == fingerprint


def test_what_cannot_sign_is_refused_with_the_reason_and_without_the_key(
    tmp_path: Path, own: ContentCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = own.certificate, own.key
    _, other = write_signing_pair(tmp_path, "other")
    weak = write_signing_pair(tmp_path, "weak", rsa.generate_private_key(65537, 1024))
    odd = write_signing_pair(tmp_path, "odd", ec.generate_private_key(ec.SECP256K1()))
    unknown = tmp_path / "unknown"
    unknown.touch(0o600)
    der = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = base64.encodebytes(der.replace(P_256, PRIME_239_V3)).decode()
    unknown.write_text(f"-----BEGIN PRIVATE KEY-----\n{pem}-----END PRIVATE KEY-----\n")
    of_server = write_signing_pair(tmp_path, "server", usage=ExtendedKeyUsageOID.SERVER_AUTH)
    expired = write_signing_pair(tmp_path, "expired", days=-1)
    locked = write_signing_pair(tmp_path, "locked", password=b"secret")
    nonsense = tmp_path / "nonsense"
    nonsense.touch(0o600)
    nonsense.write_text("no PEM")
    open_key = write_key(tmp_path / "open.key", ec.generate_private_key(ec.SECP256R1()))
    open_key.chmod(0o644)
    for pair, why in (
        ((tmp_path / "none.pem", key), "certificate .* cannot be read"),
        ((certificate, tmp_path / "none.key"), "key .* cannot be read"),
        ((certificate, open_key), "chmod 600"),
        ((certificate, other), "is not that of the certificate"),
        ((nonsense, key), "not a certificate in PEM"),
        ((certificate, nonsense), "not a private key in PEM"),
        (locked, "has a password"),
        (expired, "is valid from .* renew it"),
        (weak, "2048 bits"),
        (odd, "does not allow"),
        ((certificate, unknown), "does not allow"),
        (of_server, "cannot sign|not accepted"),
        (write_web_pair(tmp_path, "web"), "cannot sign|not accepted"),
    ):
        with pytest.raises(UserError, match=why) as refused:
            ContentCredentials(*pair).require_usable()
        assert "BEGIN" not in str(refused.value)
    for name in ("c2pa_cert", "c2pa_key"):
        with pytest.raises(UserError, match="set both"):
            ContentCredentials.of(Settings().model_copy(update={name: certificate}))
    assert ContentCredentials.of(Settings()) is None
    own.require_usable()
    monkeypatch.setitem(sys.modules, "c2pa", None)
    later = ContentCredentials(*write_signing_pair(tmp_path, "later"))
    with pytest.raises(UserError, match=r"pip install 'wan-mcp\[c2pa\]'"):
        later.require_usable()
