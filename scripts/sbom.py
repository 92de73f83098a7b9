#!/usr/bin/env python3
"""The software bill of materials of the core and the tool, as CycloneDX 1.6 JSON: sbom.py >FILE.

Made of what `cargo tree` and `cargo metadata` say by Cargo.lock for this machine's kind of platform, without a network where
the crates are there. What is compiled in is `required`; what only takes part in building is `excluded`. libcrypto and Dovecot are
linked dynamically: they are the system's, and a package's `Depends` names them. The same commit gives the same file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What is built, and with which of cargo's features
PARTS = {"core": "dovecot", "tool": "tool"}
NAME = "dovecot-mail-crypt"


def output(*argv: str) -> str:
    """What a program prints."""
    return subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def metadata() -> dict:
    """What cargo knows of all crates, here."""
    verbose = output("scripts/cargo", "-vV").splitlines()
    (host,) = [line.split(": ")[1] for line in verbose if line.startswith("host: ")]
    args = ("--format-version=1", "--locked", "--no-default-features", "--features", ",".join(PARTS.values()))
    return json.loads(output("scripts/cargo", "metadata", *args, "--filter-platform", host))


def tree(feature: str, edges: str) -> set[tuple[str, str]]:
    """Name and version of all crates on such edges. Metadata also has some that no feature asks for."""
    args = ("--locked", "--no-default-features", "--features", feature, "--edges", edges, "--prefix", "none")
    lines = output("scripts/cargo", "tree", *args, "--format", "{p}").splitlines()
    words = [line.split() for line in lines if line]
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


class Bill:
    """All crates, and what needs what."""

    def __init__(self):
        known = metadata()
        #: what each part is compiled of
        self.parts = {part: tree(feature, "normal,no-proc-macro") for part, feature in PARTS.items()}
        built = set().union(*(tree(feature, "normal,build") for feature in PARTS.values()))
        self.root = known["resolve"]["root"]
        self.packages = {p["id"]: p for p in known["packages"] if (p["name"], p["version"]) in built}
        #: crate -> what it needs, to be built or to run
        self.needs: dict[str, set[str]] = {}
        for node in known["resolve"]["nodes"]:
            deps = [d["pkg"] for d in node["deps"] if {k["kind"] for k in d["dep_kinds"]} & {None, "build"}]
            if node["id"] in self.packages:
                self.needs[node["id"]] = {pkg for pkg in deps if pkg in self.packages}

    def purl(self, crate: str) -> str:
        """How everybody calls it."""
        package = self.packages[crate]
        if crate == self.root:
            return f"pkg:generic/{NAME}@{package['version']}"
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(self, crate: str, checksums: dict[tuple[str, str], str]) -> dict:
        """One crate."""
        package = self.packages[crate]
        parts = [part for part, crates in self.parts.items() if (package["name"], package["version"]) in crates]
        # What older crates write for OR.
        licence = (package["license"] or "").replace("/", " OR ")
        found = {
            "type": "library",
            "bom-ref": self.purl(crate),
            "name": package["name"],
            "version": package["version"],
            "scope": "required" if parts else "excluded",
            "hashes": [{"alg": "SHA-256", "content": checksums[package["name"], package["version"]]}],
            "licenses": [{"expression": licence}],
            "purl": self.purl(crate),
        }
        if package["repository"]:
            found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        if parts:
            found["properties"] = [{"name": f"{NAME}:part", "value": part} for part in parts]
        return found

    def document(self, checksums: dict[tuple[str, str], str], when: str) -> dict:
        """The whole."""
        crates = sorted(self.packages, key=self.purl)
        root = self.packages[self.root]
        return {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "timestamp": when,
                "tools": {"components": [{"type": "application", "name": "sbom.py", "version": root["version"]}]},
                "component": {
                    "type": "application",
                    "bom-ref": self.purl(self.root),
                    "name": NAME,
                    "version": root["version"],
                    "description": root["description"],
                    "licenses": [{"expression": root["license"]}],
                    "purl": self.purl(self.root),
                },
            },
            "components": [self.component(crate, checksums) for crate in crates if crate != self.root],
            "dependencies": [
                {"ref": self.purl(crate), "dependsOn": sorted(self.purl(need) for need in self.needs[crate])}
                for crate in crates
            ],
        }


def when() -> str:
    """The time of the commit; not now, so that the file is the same again."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        is_clone = (ROOT / ".git").exists()
        epoch = output("git", "log", "-1", "--format=%ct") if is_clone else (ROOT / "Cargo.toml").stat().st_mtime
    return datetime.fromtimestamp(int(epoch), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> None:
    """To standard output."""
    bill = Bill()
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(p["name"], p["version"]): p["checksum"] for p in locked if "checksum" in p}
    json.dump(bill.document(checksums, when()), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
