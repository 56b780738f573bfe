"""What is in the binary, as CycloneDX 1.5: every crate that is linked for a target, their dependence on each other, the model.

    python3 scripts/sbom.py TARGET > sr3.cdx.json

It comes from `cargo metadata` and Cargo.lock, and is the same for the same Cargo.lock: it has no date and no random number.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent


def linked(metadata):
    """Ids of the packages that the root depends on to be linked, and on which ones each of them depends."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    depends, open_ids = {}, [metadata["resolve"]["root"]]
    while open_ids:
        this = open_ids.pop()
        if this in depends:
            continue
        is_linked = [dep for dep in nodes[this]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
        depends[this] = sorted(dep["pkg"] for dep in is_linked)
        open_ids += depends[this]
    return depends


def component(package, sums):
    name, version = package["name"], package["version"]
    made = {
        "type": "library",
        "bom-ref": reference(package),
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
        # Older crates write a slash for OR.
        "licenses": [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}],
    }
    if package["description"]:
        made["description"] = " ".join(package["description"].split())
    if (name, version) in sums:
        made["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    return made


def reference(package):
    return f"{package['name']}@{package['version']}"


def bundled():
    config = json.loads((ROOT / "engine/models/photo-4x/config.json").read_text())
    return {
        "type": "machine-learning-model",
        "bom-ref": config["name"],
        "name": config["name"],
        "licenses": [{"license": {"id": config["licence"]}}],
        "hashes": [{"alg": "SHA-256", "content": config["sha256"]}],
    }


def check(bom):
    """The fields that CycloneDX requires, and those that this project wants beside them."""
    assert bom["bomFormat"] == "CycloneDX" and bom["specVersion"] == "1.5" and bom["version"] == 1
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bom["serialNumber"])
    components = [bom["metadata"]["component"], *bom["components"]]
    references = [one["bom-ref"] for one in components]
    assert len(set(references)) == len(references), "a reference is used twice"
    for one in components:
        assert one["type"] in ("application", "library", "machine-learning-model") and one["name"], one
        assert one["licenses"], f"{one['name']} has no licence"
        if one["type"] != "machine-learning-model":
            assert one["version"] and one["purl"].startswith("pkg:cargo/"), one
        for digest in one.get("hashes", []):
            assert digest["alg"] == "SHA-256" and re.fullmatch("[0-9a-f]{64}", digest["content"]), one
    assert sorted(one["ref"] for one in bom["dependencies"]) == sorted(references)
    assert all(to in references for one in bom["dependencies"] for to in one["dependsOn"])


def main(target):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    lock = (ROOT / "Cargo.lock").read_bytes()
    sums = {(p["name"], p["version"]): p["checksum"] for p in tomllib.loads(lock.decode())["package"] if "checksum" in p}
    depends, root, model = linked(metadata), metadata["resolve"]["root"], bundled()
    graph = [{"ref": reference(packages[this]), "dependsOn": [reference(packages[to]) for to in depends[this]]} for this in depends]
    graph.append({"ref": model["bom-ref"], "dependsOn": []})
    next(one for one in graph if one["ref"].startswith("sr3-engine@"))["dependsOn"].append(model["bom-ref"])
    libraries = [component(packages[this], sums) for this in depends if this != root]
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=hashlib.sha256(lock + target.encode()).digest()[:16], version=4)}",
        "version": 1,
        "metadata": {
            "component": component(packages[root], sums) | {"type": "application"},
            "properties": [{"name": "sr3:target", "value": target}],
        },
        "components": [*sorted(libraries, key=lambda one: one["bom-ref"]), model],
        "dependencies": sorted(graph, key=lambda one: one["ref"]),
    }
    check(bom)
    json.dump(bom, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
