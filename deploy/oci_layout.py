"""The image `cpu` of deploy/Dockerfile without a builder: see deploy/image.sh.

    oci_layout.py check BINARY                                             is it a static executable?
    oci_layout.py layer OUT BINARY AUTHORITIES                             the image's files, as a tar
    oci_layout.py write OUT TAG ARCHITECTURE VERSION BINARY AUTHORITIES    an OCI image layout, as a tar

The same input gives the same bytes: times are 0, names are sorted.
"""

import gzip
import hashlib
import io
import json
import struct
import sys
import tarfile

USER = 65532
# Path, mode, owner; folders before what lies in them.
FOLDERS = [
    ("cache", 0o700, USER),
    ("etc", 0o755, 0),
    ("etc/ssl", 0o755, 0),
    ("etc/ssl/certs", 0o755, 0),
    ("state", 0o700, USER),
    ("tls", 0o700, USER),
    ("tmp", 0o1777, 0),
    ("usr", 0o755, 0),
    ("usr/bin", 0o755, 0),
]
TEXTS = {
    "etc/passwd": f"sr3:x:{USER}:{USER}:sr3:/cache:/sbin/nologin\n",
    "etc/group": f"sr3:x:{USER}:\n",
}
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
BINARY = "usr/bin/sr3"
INTERPRETER = 3  # PT_INTERP of the program headers: it names a dynamic linker


def check(path):
    """Ends the process unless `path` runs without anything beside it."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            sys.exit(f"{path}: no 64-bit ELF executable")
        offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        for index in range(count):
            file.seek(offset + index * size)
            if struct.unpack("<I", file.read(4))[0] == INTERPRETER:
                sys.exit(f"{path}: it wants a dynamic linker, and the image has none: build it for a musl target")


def entry(name, mode, owner, size=None):
    """A header of a tar; a folder's without a size."""
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid, info.mtime = mode, owner, owner, 0
    info.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
    info.size = size or 0
    return info


def layer(binary, authorities):
    """The one layer, as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, mode, owner in FOLDERS:
            tar.addfile(entry(path + "/", mode, owner))
        files = {path: (text.encode("ascii"), 0o644) for path, text in TEXTS.items()}
        for source, path, mode in [(authorities, AUTHORITIES, 0o644), (binary, BINARY, 0o755)]:
            with open(source, "rb") as file:
                files[path] = (file.read(), mode)
        for path in sorted(files):
            data, mode = files[path]
            tar.addfile(entry(path, mode, 0, len(data)), io.BytesIO(data))
    return out.getvalue()


def write_layer(out, binary, authorities):
    """The image's files, as a tar at `out`."""
    with open(out, "wb") as file:
        file.write(layer(binary, authorities))


def write(out, tag, architecture, version, binary, authorities):
    """An OCI image layout with that image, as a tar at `out`."""
    plain = layer(binary, authorities)
    packed = gzip.compress(plain, compresslevel=6, mtime=0)
    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    def text(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "Env": ["PATH=/usr/bin", "HOME=/cache", "SR3_CACHE=/cache"],
            "Entrypoint": ["/usr/bin/sr3"],
            "WorkingDir": "/tmp",
            "Labels": {
                "org.opencontainers.image.title": "sr3",
                "org.opencontainers.image.description": "Diffusion super-resolution: coordinator, worker and command",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
        "history": [{"created_by": "deploy/image.sh"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(text(config), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(packed, "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    named = blob(text(manifest), manifest["mediaType"])
    named["annotations"] = {"org.opencontainers.image.ref.name": tag}
    files = {
        "oci-layout": text({"imageLayoutVersion": "1.0.0"}),
        "index.json": text(
            {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [named]}
        ),
    }
    files.update({f"blobs/sha256/{digest}": data for digest, data in blobs.items()})
    with tarfile.open(out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in ["blobs", "blobs/sha256"]:
            tar.addfile(entry(folder + "/", 0o755, 0))
        for path in sorted(files):
            tar.addfile(entry(path, 0o644, 0, len(files[path])), io.BytesIO(files[path]))


if __name__ == "__main__":
    commands = {"check": (check, 1), "layer": (write_layer, 3), "write": (write, 6)}
    command, count = commands.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0))
    if command is None or len(sys.argv) != count + 2:
        sys.exit(__doc__)
    command(*sys.argv[2:])
