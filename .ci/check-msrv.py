"""Refuses crates that ask for a newer Rust than ours.

    check-msrv.py 1.85 METADATA CRATES

METADATA is what `cargo metadata` prints, CRATES a list of lines such as "http v1.5.0 (…)".
A crate that does not say what it needs is taken at its word.
"""

import json
import sys


def version(text):
    numbers = [int(part) for part in text.split(".")]
    return numbers + [0] * (3 - len(numbers))


def main():
    ours, metadata, crates = sys.argv[1:]
    with open(metadata) as file:
        packages = json.load(file)["packages"]
    needs = {(package["name"], package["version"]): package["rust_version"] for package in packages}
    with open(crates) as file:
        names = [line.split()[:2] for line in file if line.strip()]
    if len(names) < 2:
        sys.exit("no crates are listed: what was to be checked?")

    newer = []
    for name, number in names:
        needed = needs[name, number.removeprefix("v")]
        if needed and version(needed) > version(ours):
            newer.append(f"{name} {number} needs Rust {needed}")
    if newer:
        sys.exit(f"the crate promises Rust {ours}, but:\n" + "\n".join(newer))
    print(f"none of {len(names)} crates asks for more than Rust {ours}")


main()
