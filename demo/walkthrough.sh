#!/bin/sh
# The part of the demo that needs no root; mica is in PATH and MICA_ROOT names its store.
set -eu

bold='' green='' plain=''
if [ -t 1 ]; then
	bold=$(printf '\033[1m') green=$(printf '\033[32m') plain=$(printf '\033[0m')
fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
# show WORD...: print a command the way one would type it.
show() {
	line=
	for word; do
		case $word in
		*[!A-Za-z0-9_./:=,@%+-]* | '') line="$line '$word'" ;;
		*) line="$line $word" ;;
		esac
	done
	printf '%s$%s%s\n' "$green" "$line" "$plain"
}
run() {
	show "$@"
	"$@"
}
started=$(date +%s)
clean() { mica rm -f build app box >/dev/null 2>&1 || true; }
clean
say "mica $(mica version --format '{{.Client.Version}}'), as user $(id -un), with its store in $MICA_ROOT"

base=debian
reason="There is no package archive to build an image from"
sources=
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
	[ -s "$f" ] && sources="$sources $f"
done
if mica inspect --type image debian >/dev/null 2>&1; then
	say "The image debian is there from an earlier run."
elif command -v mmdebstrap >/dev/null 2>&1 && [ -n "$sources" ]; then
	say "A Debian base from this machine's own apt configuration"
	suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
	mode=unshare
	command -v newuidmap >/dev/null 2>&1 || mode=fakechroot
	# shellcheck disable=SC2086
	if run mmdebstrap --quiet --mode=$mode --variant=minbase "$suite" debian.tar $sources 2>mmdebstrap.log; then
		say "Import it as an image"
		run mica import -m "Debian base" debian.tar debian
		rm -f debian.tar
	else
		tail -n 3 mmdebstrap.log
		rm -f debian.tar
		base=host
		reason="mmdebstrap cannot build an image here; it needs subordinate ids, which mica does not"
	fi
else
	command -v mmdebstrap >/dev/null 2>&1 || reason="mmdebstrap is missing; install the package of that name for the whole walkthrough"
	base=host
fi

if [ "$base" = host ]; then
	say "$reason: the machine's own root takes its place."
	run mica run --name box host sh -c 'echo "hello from a copy of this machine" > /etc/motd; cat /etc/motd'
	say "The machine is as it was; this is what the container changed"
	run mica diff box
	run mica commit -m "Say hello" box hello
	run mica history hello
	run mica run --rm hello cat /etc/motd
	run mica rm -f box
	say "What is left: the image hello in $MICA_ROOT. Away with everything: rm -rf $PWD"
	exit 0
fi

say "Install nodejs in a container"
install='apt-get update && apt-get install -y nodejs'
show mica run --name build debian sh -c "$install"
if ! mica run --name build debian sh -c "$install" >apt.log 2>&1; then
	tail -n 20 apt.log
	exit 1
fi
echo "($(wc -l <apt.log) lines of apt's output in $PWD/apt.log)"

say "Make an image of it"
run mica commit -m "Add node" build node-base
run mica history node-base
run mica run --rm node-base node -e 'console.log("two and two is", 2 + 2)'

say "Put a program in, and make an image of that"
cat >app.js <<'JS'
console.log("Hello from an image of my own, running node", process.version);
JS
run mica create --name app -w /srv node-base
run mica cp app.js app:/srv/app.js
run mica commit -c "CMD node app.js" -m "Add app" app sample-app
run mica history sample-app
run mica images

say "Run it"
run mica run --rm sample-app

say "Clear the containers away"
run mica rm -f build app
run mica ps -a

say "Done in $(($(date +%s) - started)) seconds."
echo "What is left: the images debian, node-base and sample-app in $MICA_ROOT."
who=''
[ "$(id -un)" != mica-demo ] || who=" The user mica-demo was made for it: userdel -r mica-demo."
echo "Away with everything: rm -rf $PWD.$who"
