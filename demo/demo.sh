#!/bin/sh
# The walkthrough, from nothing to a program in an image of its own, as a plain user. Each command is printed before it runs.
set -eu
cd "$(dirname "$0")/.."
here=$PWD

sh .ci/prepare demo
if command -v "${GO:-go}" >/dev/null 2>&1; then
	make -s build
fi
[ -x bin/mica ] || { echo "demo: bin/mica is missing and there is no go to build it" >&2; exit 1; }

# As root, the walkthrough is done by a plain user made for it.
if [ "$(id -u)" = 0 ]; then
	user=mica-demo
	home=$(getent passwd "$user" | cut -d: -f6)
	work=$home/demo
	install -d -o "$user" -g "$user" "$work"
	install -o "$user" -g "$user" -m 755 bin/mica "$work/mica"
	install -o "$user" -g "$user" -m 755 demo/walkthrough.sh "$work/walkthrough.sh"
	cd "$work"
	exec runuser -u "$user" -- env -i HOME="$home" USER="$user" PATH="$work:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
		TERM="${TERM:-dumb}" LANG="${LANG:-C.UTF-8}" MICA_ROOT="$work/store" sh ./walkthrough.sh
fi
work=${XDG_CACHE_HOME:-$HOME/.cache}/mica-demo
mkdir -p "$work"
cd "$work"
PATH="$here/bin:$PATH" MICA_ROOT="$work/store" exec sh "$here/demo/walkthrough.sh"
