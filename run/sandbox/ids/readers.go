package ids

import (
	"path"
	"strings"
)

// ownerReaders are programs that copy the owners of files, or decide by them. Others see the one user of the sandbox as the
// owner of everything and are not slowed down.
var ownerReaders = words(`
	cp mv install tar bsdtar gtar star cpio bsdcpio pax rsync ar busybox toybox mksquashfs unsquashfs mkfs.erofs genisoimage
	dpkg dpkg-deb dpkg-divert dpkg-query dpkg-statoverride rpm rpmbuild apk pacman xbps-install opkg
	useradd usermod userdel groupadd groupmod groupdel groupmems newusers passwd chpasswd gpasswd chgpasswd chage chfn chsh
	vipw vigr pwck grpck pwconv pwunconv grpconv grpunconv adduser addgroup deluser delgroup update-passwd
	systemd-sysusers systemd-tmpfiles
	ls find stat test [ chown chgrp tree namei getfacl setfacl git ssh logrotate gzip gunzip bzip2 xz zstd
	postgres postmaster initdb crontab cron mandb`)

// ReadsOwners says whether a program has to see the recorded owners.
func ReadsOwners(file string) bool {
	name := path.Base(file)
	_, ok := ownerReaders[name]
	return ok || strings.HasPrefix(name, "pg_")
}

func words(list string) map[string]struct{} {
	m := map[string]struct{}{}
	for _, w := range strings.Fields(list) {
		m[w] = struct{}{}
	}
	return m
}
