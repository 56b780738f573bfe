"""The containers of deploy/compose.yaml: compose.py FILE, the output of `docker compose config --format json`."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    services = json.load(file)["services"]
failures = []


def check(holds, what):
    if not holds:
        failures.append(what)


for name, service in services.items():
    check(service.get("user", "0").split(":")[0] not in ("", "0", "root"), f"{name} is root")
    check(service.get("read_only") is True, f"{name} writes to its root file system")
    check(service.get("cap_drop") == ["ALL"] and not service.get("cap_add"), f"{name} keeps capabilities")
    check("no-new-privileges:true" in service.get("security_opt", []), f"{name} may gain privileges")
    check(not service.get("privileged"), f"{name} is privileged")
    check(":" in service["image"] and not service["image"].endswith(":latest"), f"{name}'s image has no version")
    words = [*(service.get("command") or []), *(service.get("environment") or {}).values()]
    check(not any("insecure" in word for word in words), f"{name} runs without TLS")
    check(not any("http://" in word for word in words), f"{name} speaks without TLS")
    for port in service.get("ports", []):
        check(port.get("host_ip") == "127.0.0.1", f"{name} is reached from other machines")
    authority = [volume for volume in service.get("volumes", []) if volume.get("source") == "certs"]
    for volume in authority:
        own = volume.get("volume", {}).get("subpath")
        if service.get("profiles") == ["setup"]:
            check(service.get("network_mode") == "none", f"{name} has the authority's key and a network")
        else:
            check(own and volume.get("read_only"), f"{name} sees other parts' keys")
    if any(word.startswith("--drain-timeout=") for word in words):
        drain = next(int(word.split("=")[1]) for word in words if word.startswith("--drain-timeout="))
        grace = service["stop_grace_period"]
        seconds = sum(int(part) * factor for part, factor in zip(grace.rstrip("s").split("m")[::-1], (1, 60)) if part)
        check(seconds >= drain + 12, f"{name} is killed before it has drained ({grace})")
workers = [name for name in services if name.startswith("worker")]
coordinators = [name for name in services if name.startswith("coordinator")]
check(len(workers) == 2 and len(coordinators) == 2, "a coordinator, a standby and two workers")
for name in coordinators:
    peers = [word for word in services[name]["command"] if word.startswith("--peer=")]
    others = [f"--peer=https://{other}:7070" for other in coordinators if other != name]
    check(peers == others, f"{name} has the peers {peers}")
if failures:
    sys.exit("\n".join(failures))
print(f"{len(services)} services")
