#!/usr/bin/env bash
# A cluster on machines of its own: network namespaces a, b (coordinators) and c, d (workers), each with an address, and no way
# to each other but a bridge. They are started by the commands that docs/operations.md has for it, and by nothing else; d is also where
# people are. An S3 server stands at a. Afterwards a folder through the cluster has the bytes of one process.
#
# Usage: scripts/three-machines.sh SR3      Needs root and `ip netns`; without them it says so, and ends with 77.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
sr3=$(realpath "$1")
id=sr3$$
net=10.77.0
port=8333

if ! ip netns add "$id-hub" 2> /dev/null; then
  echo "left out: network namespaces cannot be made here"
  exit 77
fi
work=$(mktemp -d)
end() {
  disown -a
  for name in a b c d hub; do
    ip netns pids "$id-$name" 2> /dev/null | xargs -r kill -KILL 2> /dev/null || true
    ip netns del "$id-$name" 2> /dev/null || true
    rm -rf "/etc/netns/$id-$name"
  done
  rm -rf "$work"
}
trap end EXIT

ip -n "$id-hub" link add hub type bridge
ip -n "$id-hub" link set hub up
number=0
for name in a b c d; do
  number=$((number + 1))
  ip netns add "$id-$name"
  ip -n "$id-hub" link add "to-$name" type veth peer name eth0 netns "$id-$name"
  ip -n "$id-hub" link set "to-$name" master hub up
  ip -n "$id-$name" addr add "$net.$number/24" dev eth0
  ip -n "$id-$name" link set eth0 up
  ip -n "$id-$name" link set lo up
  mkdir -p "/etc/netns/$id-$name"
  printf '127.0.0.1 localhost\n%s.1 a.example.com\n%s.2 b.example.com\n%s.3 c.example.com\n%s.4 d.example.com\n' \
    $net $net $net $net > "/etc/netns/$id-$name/hosts"
done

# Blocks of commands of the section, by a word that they hold.
block() {
  awk -v word="$1" '/^## /{on = /^## Three machines/} /^```sh/{inside = on; text = ""; next}
    /^```/{if (inside && index(text, word)) {printf "%s", text; exit} inside = 0} inside{text = text $0 "\n"}' \
    "$root/docs/operations.md" | sed "s|s3://state/sr3|s3://test/state|g; s|s3://photos|s3://test/photos|g"
}
export PATH="$work/bin:$PATH"
mkdir -p "$work/bin" "$work/own" "$work/s3"
ln -s "$sr3" "$work/bin/sr3"
export AWS_ACCESS_KEY_ID=AKIATEST AWS_SECRET_ACCESS_KEY=testsecret AWS_REGION=us-east-1 \
  AWS_ENDPOINT_URL=http://a.example.com:$port
on() { # on MACHINE COMMAND…, in the folder of whoever runs it
  local machine=$1
  shift
  (cd "$work/own" && exec ip netns exec "$id-$machine" "$@")
}

# The store of the machines: on loopback of a, and from there to all of them.
ip netns exec "$id-a" bash "$root/scripts/seaweedfs.sh" start "$work/s3" 9333 > "$work/s3.out" 2>&1 || { cat "$work/s3.out" >&2; exit 1; }
cat > "$work/relay.py" << 'END'
import socket, sys, threading
def carry(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    near, _ = listener.accept()
    far = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
    for pair in ((near, far), (far, near)):
        threading.Thread(target=carry, args=pair, daemon=True).start()
END
ip netns exec "$id-a" python3 "$work/relay.py" "$net.1" $port 9333 > /dev/null 2>&1 &

# Certificates; one more for the second worker, as the ones above it are made.
certificates=$(block 'sr3 certs init')
on d bash -euc "$certificates
sr3 certs issue ca d --role work --host d.example.com" > /dev/null
by_hand=$(block 'sr3 worker --coordinator')
coordinator=$(grep '^sr3 coordinator' <<< "$by_hand")
worker=$(grep '^sr3 worker' <<< "$by_hand")
second=$(sed 's|ca/a|ca/b|; s|--peer https://b|--peer https://a|' <<< "$coordinator")
for pair in "a|$coordinator" "b|$second" "c|$worker --threads 1" "d|${worker/ca\/c/ca\/d} --threads 1"; do
  (cd "$work/own" && exec ip netns exec "$id-${pair%%|*}" bash -c "exec ${pair#*|}") > "$work/${pair%%|*}.log" 2>&1 &
    sleep 1
done

# People, at d.
people=$(block 'export SR3_TLS=$PWD/ca/anna')
exports=$(grep '^export' <<< "$people")
workers() { on d bash -c "$exports; sr3 workers --json" 2> /dev/null | wc -l; }
for _ in $(seq 200); do
  [ "$(workers)" = 2 ] && break
  sleep 0.2
done
on d bash -euc "$people" > "$work/people" || { tail -n 5 "$work"/?.log >&2; exit 1; }
sed 's/sr3_[0-9a-f]*_[0-9a-f]*/(a token)/' "$work/people"

# A folder, by one process, and by all of them.
mkdir "$work/own/in" "$work/own/out"
cp "$root"/tests/hard/sizes/* "$work/own/in/"
on d sr3 upscale in local --preset one --quiet
s3() { # s3 put|get FOLDER PREFIX
  on d python3 - "$root/scripts" "$AWS_ENDPOINT_URL" "$@" << 'END'
import os, sys
scripts, endpoint, way, folder, prefix = sys.argv[1:]
sys.path.insert(0, scripts)
from s3_ready import signed
for name in sorted(os.listdir("in" if way == "put" else "local")):
    if name.startswith("."):
        continue
    path, at = os.path.join(folder, name), f"/test/{prefix}/{name}"
    if way == "put":
        signed(endpoint, "AKIATEST", "testsecret", "PUT", at, open(path, "rb").read())
    else:
        open(path, "wb").write(signed(endpoint, "AKIATEST", "testsecret", "GET", at))
END
}
s3 put in photos/in
if ! on d bash -euc "$exports; sr3 upscale s3://test/photos/in s3://test/photos/out --preset one --quiet --coordinator \$SR3_COORDINATOR"; then
  tail -n 5 "$work"/?.log >&2
  exit 1
fi
s3 get out photos/out
rm -rf "$work/own/local/.sr3"
diff -r "$work/own/local" "$work/own/out"
on d bash -c "$exports; sr3 workers"
echo "the bytes of one process, by $(workers) workers on $(ip netns list | grep -c "^$id-[abcd]") machines"
