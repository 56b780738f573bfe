"""What `deploy/image.sh` made: image.py ARCHIVE BINARY. Reads the OCI archive, and says in a line what it is.

Promises that are looked at: one user that is not root, an entry point, every digest right, the binary's own bytes, folders that
belong to the user, nothing with set-uid, and no file beside those that are named in Dockerfile."""

import gzip
import hashlib
import io
import json
import sys
import tarfile

FILES = {"etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt", "usr/bin/sr3"}
OWNED = {"cache", "state", "tls"}
archive, binary = sys.argv[1:]


def check(holds, what):
    if not holds:
        sys.exit(f"{archive}: {what}")


with tarfile.open(archive) as tar:
    parts = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def blob(digest):
    kind, name = digest.split(":")
    data = parts[f"blobs/{kind}/{name}"]
    check(hashlib.new(kind, data).hexdigest() == name, f"{digest} has other bytes")
    return data


check(json.loads(parts["oci-layout"])["imageLayoutVersion"] == "1.0.0", "another layout")
[named] = json.loads(parts["index.json"])["manifests"]
manifest = json.loads(blob(named["digest"]))
image = json.loads(blob(manifest["config"]["digest"]))
config = image["config"]
check(config["User"] == "65532:65532", f"its user is {config.get('User')}")
check(config["Entrypoint"] == ["/usr/bin/sr3"], f"its entry point is {config.get('Entrypoint')}")
check("SR3_CACHE=/cache" in config["Env"], "SR3_CACHE is not set")
check(len(image["rootfs"]["diff_ids"]) == len(manifest["layers"]), "layers and their digests differ in number")

found = {}
for layer, diff in zip(manifest["layers"], image["rootfs"]["diff_ids"], strict=True):
    data = blob(layer["digest"])
    plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    check("sha256:" + hashlib.sha256(plain).hexdigest() == diff, "a layer is not what its digest says")
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        for member in tar:
            name = member.name.strip("./")
            body = tar.extractfile(member).read() if member.isfile() else None
            found[name] = (member, body)
files = {name for name, (member, _) in found.items() if not member.isdir()}
check(files == FILES, f"its files are {sorted(files)}")
for name, (member, _) in found.items():
    if name in OWNED:
        right = (member.uid, member.gid, member.mode & 0o7777) == (65532, 65532, 0o700)
        check(right, f"/{name} is of {member.uid}:{member.gid}, mode {member.mode:o}")
    check(not member.mode & 0o6000, f"/{name} has set-uid or set-gid")
check(found["tmp"][0].mode & 0o7777 == 0o1777, "/tmp is not for everybody")
with open(binary, "rb") as file:
    check(found["usr/bin/sr3"][1] == file.read(), "its binary is another one")
print(f"an image of {len(found)} entries, {named['annotations']['org.opencontainers.image.ref.name']}, user {config['User']}")
