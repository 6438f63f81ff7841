"""Certificates of an authority that a test makes itself, with the `openssl` command."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Signs certificates, and takes them back."""

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.certificate = folder / "ca.crt"
        (folder / "index").touch()
        (folder / "serial").write_text("01\n")
        (folder / "number").write_text("01\n")
        (folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca = here\n[here]\n"
            f"dir = {folder}\nnew_certs_dir = {folder}\ndatabase = {folder}/index\n"
            f"serial = {folder}/serial\ncrlnumber = {folder}/number\nunique_subject = no\n"
            "default_md = sha256\ndefault_days = 30\ndefault_crl_days = 30\n"
            "policy = any\ncopy_extensions = copy\n[any]\ncommonName = supplied\n"
        )
        self._new("ca", "the guild's authority", "-x509", "-days", "30")

    def _new(self, name: str, subject: str, *arguments: str) -> None:
        key, out = self.folder / f"{name}.key", self.folder / f"{name}.crt"
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl("req", *kind, "-keyout", key, "-out", out, "-subj", f"/CN={subject}", *arguments)
        key.chmod(0o600)

    def sign(self, name: str, *hosts: str) -> Path:
        """A certificate for hosts, or for a user; its key lies beside it."""
        names = ("-addext", "subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts))
        self._new(name, name, *(names if hosts else ()))
        request, signed = self.folder / f"{name}.crt", self.folder / f"{name}.signed"
        self._ca("-in", request, "-out", signed, "-notext")
        return signed.replace(request)

    def take_back(self, *certificates: Path) -> Path:
        """The list of what was taken back."""
        for certificate in certificates:
            self._ca("-revoke", certificate)
        crl = self.folder / f"{len(certificates)}.crl"
        self._ca("-gencrl", "-out", crl)
        return crl

    def _ca(self, *arguments: str | Path) -> None:
        own = ("-cert", self.certificate, "-keyfile", self.folder / "ca.key")
        openssl("ca", "-batch", "-config", self.folder / "ca.cnf", *own, *arguments)


def openssl(*arguments: str | Path) -> None:
    """Run the command."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
