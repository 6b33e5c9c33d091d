#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The main job from end to end: an image of a real tree, proved, listed, read without a copy,
# extracted and compared, then changed in a branch. Usage: demo.sh [DIRECTORY]
set -euo pipefail

tree=${1:-$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')}
[ -d "$tree" ] || { echo "demo: $tree: not a directory" >&2; exit 1; }
work=$(mktemp -d "${TMPDIR:-/tmp}/daxfs-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT
image=$work/demo.daxfs

step() {
    printf '\n# %s\n$ %s\n' "$1" "${*:2}"
    local start end
    start=$(date +%s%N)
    "${@:2}"
    end=$(date +%s%N)
    printf '  [%d ms]\n' $(((end - start) / 1000000))
}

quiet() { "$@" >/dev/null; }

printf 'An image of %s, %s on disk.\n' "$tree" "$(du -sh "$tree" | cut -f1)"
step 'Build an image with room for branches' mkdaxfs -d "$tree" -o "$image" --label demo -w
step 'Prove it: every structure, every name, every checksum' fsck.daxfs "$image"
step 'Look inside' daxfs inspect "$image"
printf '\n# List it\n$ daxfs ls -l %s /\n' "$image"
daxfs ls -l "$image" / > "$work/list"
head -n 5 "$work/list"
printf '  ... %d entries\n' "$(wc -l < "$work/list")"
step 'Read a file in place, without a copy' python - "$image" <<'PYTHON'
import sys, time
import daxfs

with daxfs.open(sys.argv[1]) as image:
    path, size = max(
        ((path, image.stat(path).st_size) for path in image.glob("**/*") if image.is_file(path)),
        key=lambda found: found[1],
    )
    start = time.perf_counter()
    view = image.view(path)
    took = time.perf_counter() - start
    print(f"{path}: {size:,} bytes, {len(view):,} mapped in {took * 1e6:.0f} µs; "
          f"first bytes {bytes(view[:8])!r}")
PYTHON
step 'Extract it' daxfs extract "$image" "$work/tree"
step 'Compare the image with the tree it was made of' daxfs diff "$image" "$tree"
step 'Compare what was extracted, with a tool that knows nothing of daxfs' \
    quiet diff -r --no-dereference "$tree" "$work/tree"
printf '\nAll the same. The image has %s, the tree %s.\n' \
    "$(du -h --apparent-size "$image" | cut -f1)" "$(du -sh --apparent-size "$tree" | cut -f1)"

step 'Make a branch' daxfs-branch create feature -i "$image"
step 'Change it from Python: a new file, one rewritten, one gone' python - "$image" <<'PYTHON'
import sys
import daxfs

with daxfs.open(sys.argv[1], writable=True) as image:
    with image.branch("feature", keep=True) as branch:
        files = [path for path in branch.glob("**/*") if branch.lstat(path).is_file()]
        branch.write_text("NOTES", "made in a branch\n")
        branch.makedirs("new/directory")
        with branch.open(files[0], "r+b") as file:
            file.write(b"changed")
        branch.unlink(files[1])
    print(f"main is as it was: {not image.exists('NOTES')}")
PYTHON
step 'See what changed' daxfs-branch diff feature -i "$image"
step 'And which branches there are' daxfs-branch list -i "$image"
step 'Commit it' daxfs-branch commit feature -i "$image"
step 'Find it in main, with another program run' daxfs cat "$image" NOTES
if [ -e /dev/fuse ]; then
    mnt=$work/mnt
    mkdir "$mnt"
    trap 'daxfs umount "$mnt" 2>/dev/null || :; rm -rf "$work"' EXIT
    step 'Mount a new branch' daxfs mount -o branch=work,parent=main "$image" "$mnt"
    git init -q -b trunk "$mnt/project"
    printf '#include <stdio.h>\nint main(void) { puts("compiled and run in a branch"); }\n' \
        > "$mnt/project/hello.c"
    step 'Compile a program there' cc -o "$mnt/project/hello" "$mnt/project/hello.c"
    step 'Run it' "$mnt/project/hello"
    git -C "$mnt/project" add hello.c
    step 'Commit its source with git' \
        git -C "$mnt/project" -c user.name=Demo -c user.email=demo@localhost commit -qm 'Say hello'
    # On disk, what was written is there for others once it is durable.
    sync "$mnt"
    printf '\n# See what that changed\n$ daxfs-branch diff --stat work -i %s\n' "$image"
    daxfs-branch diff --stat work -i "$image" | tail -n 5
    step 'Commit the branch through the mount' daxfs-branch commit work -m "$mnt"
    step 'Take the mount away' daxfs umount "$mnt"
    step 'Mount main' daxfs mount "$image" "$mnt"
    step 'Find it there' "$mnt/project/hello"
    step 'And with git' git -C "$mnt/project" log --oneline
    step 'Take the mount away' daxfs umount "$mnt"
else
    echo 'demo: no /dev/fuse here, so nothing is mounted' >&2
fi
step 'Make it a new base without history' daxfs compact "$image"
step 'Prove it again' fsck.daxfs "$image"
printf '\n# And the new base has it: %s\n' "$(daxfs cat "$image" NOTES)"
