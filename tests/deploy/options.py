"""Whether sr3 has the options that the files use: options.py SR3 FOLDER. FOLDER has what scripts/deploy-check.sh rendered.

Commands are taken from the containers' arguments, the units, the batch script, and the code blocks of docs/operations.md."""

import functools
import json
import pathlib
import re
import shlex
import subprocess
import sys

import yaml

sr3, folder = sys.argv[1], pathlib.Path(sys.argv[2])
NESTED = {"certs", "tokens", "ledger", "models", "spec"}
used = []


def containers(document):
    if isinstance(document, dict):
        for container in document.get("containers", []):
            yield container
        for value in document.values():
            yield from containers(value)
    elif isinstance(document, list):
        for value in document:
            yield from containers(value)


for path in folder.glob("*.yaml"):
    for document in yaml.safe_load_all(path.read_text()):
        for container in containers(document):
            used.append((path.name, container["args"]))
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if command := container.get(probe, {}).get("exec", {}).get("command"):
                    used.append((path.name, command[1:]))
for name, service in json.loads((folder / "compose.json").read_text())["services"].items():
    if service["image"].startswith("sr3:"):
        used.append((f"compose.yaml, {name}", service["command"]))
        if test := service.get("healthcheck", {}).get("test"):
            used.append((f"compose.yaml, {name}", test[2:]))
for path in [*pathlib.Path("deploy/systemd").glob("*.service"), pathlib.Path("deploy/slurm/sr3-worker.sbatch"), pathlib.Path("docs/operations.md")]:
    text = path.read_text().replace("\\\n", " ")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
    for line in text.splitlines():
        found = re.match(r"^\s*(?:ExecStart=|sudo (?:-u sr3 )?)?(?:\S*/)?sr3 (?=[a-z])(.*)$", line) or re.search(r"run --rm sr3 (.*)$", line)
        if found:
            words = shlex.split(found[1].replace("${options[@]+", "").replace("$(", "(").rstrip("&} "), comments=True, posix=True)
            used.append((str(path), words))


@functools.cache
def help_of(command):
    said = subprocess.run([sr3, *command, "--help"], capture_output=True, text=True, check=False)
    return said.stdout if said.returncode == 0 else None


failures = set()
for where, words in used:
    words = [word for word in words if word not in ("|", ">")]
    if words[0].startswith("-"):
        continue
    command = tuple(words[:2]) if words[0] in NESTED and len(words) > 1 else (words[0],)
    text = help_of(command)
    if text is None:
        failures.add(f"{where}: sr3 has no command `{' '.join(command)}`")
        continue
    for word in words:
        if re.match(r"^--[a-z]", word) and not re.search(re.escape(word.split("=")[0]) + r"\b(?!-)", text):
            failures.add(f"{where}: `sr3 {' '.join(command)}` has no option {word.split('=')[0]}")
if failures:
    sys.exit("\n".join(sorted(failures)))
print(f"{len(used)} commands")
