"""What the chart makes, looked at: chart.py KUBERNETES SCHEMAS FILE...

Every document is held to the schema of its kind, strictly: Kubernetes' own, or those under SCHEMAS for kinds that others define; a kind
without a schema is a failure. Beyond that, what no schema knows: pods without root and with read-only file systems, selectors that
find something, Secrets that a Certificate makes, and time enough to drain. Needs kubernetes-validate."""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

version, schemas, *files = sys.argv[1:]
FOREIGN = {}
for path in pathlib.Path(schemas).glob("*.json"):
    schema = json.loads(path.read_text())
    properties = schema["properties"]
    FOREIGN[properties["apiVersion"]["const"], properties["kind"]["const"]] = schema
WITH_PODS = {"StatefulSet", "Deployment", "Job"}
failures = []


def check(holds, where, what):
    if not holds:
        failures.append(f"{where}: {what}")


def held_to_schema(where, document):
    foreign = FOREIGN.get((document["apiVersion"], document["kind"]))
    try:
        if foreign:
            jsonschema.Draft7Validator(foreign).validate(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        check(False, where, f"{'.'.join(map(str, error.path))}: {error.message}")
    except kubernetes_validate.SchemaNotFoundError:
        check(False, where, "no schema of this kind: write one under deploy/helm/schemas")


def pod_of(document):
    if document["kind"] == "Pod":
        return document["metadata"], document["spec"]
    if document["kind"] in WITH_PODS:
        return document["spec"]["template"]["metadata"], document["spec"]["template"]["spec"]
    return None


def hardened(where, spec):
    security = spec["securityContext"]
    check(security["runAsNonRoot"] and security["runAsUser"] > 0, where, "may be root")
    check(security["seccompProfile"]["type"] == "RuntimeDefault", where, "has no seccomp profile")
    check(spec["automountServiceAccountToken"] is False, where, "has a token of Kubernetes")
    check(not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), where, "shares the host's namespaces")
    mounted = {volume["name"] for volume in spec["volumes"]}
    for volume in spec["volumes"]:
        check(set(volume) <= {"name", "secret", "emptyDir"}, where, f"mounts {volume}")
        if "emptyDir" in volume:
            check("sizeLimit" in volume["emptyDir"], where, f"{volume['name']} has no bound")
    for container in spec["containers"]:
        own = container["securityContext"]
        check(own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"], where, "writes to its root, or escalates")
        check(own["capabilities"] == {"drop": ["ALL"]}, where, "keeps capabilities")
        check("memory" in container["resources"]["limits"], where, "has no limit of memory")
        check(":" in container["image"] and not container["image"].endswith(":latest"), where, "its image has no version")
        words = container["args"]
        check(not any("insecure" in word for word in words), where, "runs without TLS")
        check("--tls=/tls" in words or "/tls" in words, where, "names no certificates")
        check({mount["name"] for mount in container["volumeMounts"]} == mounted, where, "mounts what there is not")


def options(container):
    return dict(word.removeprefix("--").split("=", 1) for word in container["args"] if word.startswith("--") and "=" in word)


def finds(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


count = 0
for file in files:
    with open(file, encoding="utf-8") as text:
        documents = [document for document in yaml.safe_load_all(text) if document]
    count += len(documents)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    check(len(set(names)) == len(names), file, "two objects of one kind and name")
    pods, services, made, wanted = [], [], set(), set()
    for document in documents:
        where = f"{file}: {document['kind']} {document['metadata']['name']}"
        held_to_schema(where, document)
        if document["kind"] == "Service":
            services.append(document["metadata"]["labels"])
        if document["kind"] == "Certificate":
            made.add(document["spec"]["secretName"])
        if pod := pod_of(document):
            metadata, spec = pod
            pods.append(metadata["labels"])
            hardened(where, spec)
            wanted |= {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
            if drain := options(spec["containers"][0]).get("drain-timeout"):
                check(spec["terminationGracePeriodSeconds"] >= int(drain) + 12, where, "is killed before it has drained")
    if made:
        check(wanted <= made, file, f"nobody makes the Secrets {wanted - made}")
    for document in documents:
        where = f"{file}: {document['kind']} {document['metadata']['name']}"
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            check(any(finds(spec["selector"], labels) for labels in pods), where, "leads to no pod")
        if document["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            selector = spec.get("podSelector", spec.get("selector"))["matchLabels"]
            check(any(finds(selector, labels) for labels in pods), where, "is about no pod")
        if document["kind"] in ("StatefulSet", "Deployment"):
            check(finds(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]), where, "does not know its pods")
        if document["kind"] == "StatefulSet":
            heads = [d for d in documents if d["kind"] == "Service" and d["metadata"]["name"] == spec["serviceName"]]
            check(len(heads) == 1 and heads[0]["spec"].get("publishNotReadyAddresses") is True, where, "its pods have no names")
        if document["kind"] == "ServiceMonitor":
            check(any(finds(spec["selector"]["matchLabels"], labels) for labels in services), where, "watches no Service")
            for endpoint in spec["endpoints"]:
                host = endpoint["tlsConfig"]["serverName"]
                hosts = [d["spec"]["dnsNames"] for d in documents if d["kind"] == "Certificate"]
                check(not hosts or any(host in names for names in hosts), where, f"no certificate is for {host}")
        if document["kind"] == "ScaledObject":
            check(("Deployment", spec["scaleTargetRef"]["name"]) in names, where, "scales nothing")
            scaled = next(d for d in documents if d["kind"] == "Deployment")
            check("replicas" not in scaled["spec"], where, "its Deployment says how many, too")
if failures:
    sys.exit("\n".join(failures))
print(f"{count} objects of {len(files)} sets of values")
