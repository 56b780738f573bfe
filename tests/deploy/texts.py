"""What the files say of each other: texts.py EXPRESSIONS. Writes the dashboard's expressions there, as rules for promtool.

- Every metric that is asked for is one that sr3 has (metrics.txt), in alerts, dashboard and chart.
- docs/operations.md has a section for every alert, and links that lead somewhere.
- Nothing names a registry, and nothing runs `latest`."""

import json
import pathlib
import re
import sys

import yaml

failures = []
here = pathlib.Path(__file__).parent
known = set((here / "metrics.txt").read_text().split())
deploy = pathlib.Path("deploy")


def check(holds, what):
    if not holds:
        failures.append(what)


def metrics(where, text):
    for name in re.findall(r"\bsr3_[a-z_]+", text):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        check(name in known or base in known, f"{where}: sr3 has no metric {name}")


alerts = yaml.safe_load((deploy / "monitoring/alerts.yaml").read_text())
rules = [rule for group in alerts["groups"] for rule in group["rules"]]
for rule in rules:
    metrics(rule["alert"], rule["expr"])
dashboard = json.loads((deploy / "monitoring/dashboard.json").read_text())
expressions = []
numbers = [panel["id"] for panel in dashboard["panels"]]
check(len(numbers) == len(set(numbers)), "two panels have one number")
for panel in dashboard["panels"]:
    for target in panel.get("targets", []):
        metrics(panel["title"], target["expr"])
        expressions.append(target["expr"].replace("$cluster", ".*").replace("$namespace", ".*"))
metrics("keda.yaml", (deploy / "helm/sr3/templates/keda.yaml").read_text())
as_rules = [{"record": f"dashboard:{index}", "expr": text} for index, text in enumerate(expressions)]
pathlib.Path(sys.argv[1]).write_text(json.dumps({"groups": [{"name": "dashboard", "rules": as_rules}]}))

tested = (here / "alerts.test.yaml").read_text()
page = pathlib.Path("docs/operations.md").read_text()
headings = {re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in page.splitlines() if line.startswith("#")}
for rule in rules:
    check(rule["alert"].lower() in headings, f"docs/operations.md says nothing of {rule['alert']}")
    check(rule["annotations"]["runbook"].endswith("#" + rule["alert"].lower()), f"{rule['alert']} leads elsewhere")
    check(tested.count(f"alertname: {rule['alert']}") >= 2, f"{rule['alert']} is not tested both ways")
for target in re.findall(r"\]\(([^)]+)\)", page):
    path, _, anchor = target.partition("#")
    check(not path or (pathlib.Path("docs") / path).exists(), f"docs/operations.md: {target} is not there")
    check(not anchor or path or anchor in headings, f"docs/operations.md: no section #{anchor}")
for path in re.findall(r"`((?:deploy|scripts|docs|tests)/[^` ]+)`", page):
    check(pathlib.Path(path).exists(), f"docs/operations.md: {path} is not there")

for path in [*deploy.rglob("*"), pathlib.Path("docs/operations.md")]:
    if path.is_file() and path.suffix != ".json":
        text = path.read_text()
        check(not re.search(r"\b(docker|ghcr|quay|gcr|pypi|registry)\.[a-z]+\.?[a-z]*/", text), f"{path} names a registry")
        check(not re.search(r"image: .*:latest", text), f"{path} runs `latest`")
if failures:
    sys.exit("\n".join(failures))
print(f"{len(rules)} alerts, {len(expressions)} expressions")
