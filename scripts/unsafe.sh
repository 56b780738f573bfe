#!/usr/bin/env bash
# Holds docs/unsafe.md to the code: every file with `unsafe` in it, how many blocks and how many functions, traits and
# implementations. Comments and strings do not count. Needs python3. What differs is printed as the line to write.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 - <<'END'
import pathlib, re, sys

# What is no code: comments (nested ones one level deep), strings, raw strings, characters; lifetimes stay.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*(?:/\*.*?\*/|.)*?\*/|\bb?c?r(\#*)".*?"\1|"(?:\\.|[^"\\])*"|'(?:\\[^\n]*?|[^'\\\n])'""", re.DOTALL)
ROW = re.compile(r"\| `(.+?)` \| (\d+) \| (\d+) \| (.*) \|")

found = {}
for path in sorted(pathlib.Path(".").rglob("*.rs")):
    if "target" in path.parts or path.parts[0] == "dist":
        continue
    code = NO_CODE.sub(" ", path.read_text())
    blocks = len(re.findall(r"\bunsafe\s*\{", code))
    items = len(re.findall(r"\bunsafe\s+(?:extern\b|fn\b|impl\b|trait\b)", code))
    if blocks or items:
        found[str(path)] = (blocks, items)

kept = {}
for line in pathlib.Path("docs/unsafe.md").read_text().splitlines():
    if row := ROW.fullmatch(line):
        kept[row[1]] = (int(row[2]), int(row[3])), row[4]

wrong = []
for path, counts in found.items():
    was, why = kept.get(path, (None, "WHY"))
    if was != counts:
        wrong.append(f"| `{path}` | {counts[0]} | {counts[1]} | {why} |")
wrong += [f"(none) for `{path}`, which has no `unsafe`" for path in kept if path not in found]
if wrong:
    print("docs/unsafe.md does not fit the code; it has to say:", *wrong, sep="\n", file=sys.stderr)
    sys.exit(1)
blocks, items = (sum(counts[i] for counts in found.values()) for i in (0, 1))
print(f"unsafe: {blocks} blocks and {items} functions, traits and implementations in {len(found)} files, as docs/unsafe.md says")
END
