package supervise

import (
	"fmt"
	"os"
	"slices"

	"mica/run/mounted"
	"mica/run/record"
	"mica/run/userns"
)

// holdVolumes takes the volumes of the container into use, unless it has one id where others have more: those that it finds
// are the user's as long as it is alone.
func (sess *session) holdVolumes() error {
	isVolume := func(m record.Mount) bool { return m.Type == record.MountVolume }
	if !slices.ContainsFunc(sess.cfg.Host.Mounts, isVolume) {
		return nil
	}
	if hold, err := mounted.HoldsVolumes(sess.cfg); !hold {
		return err
	}
	for i := range sess.cfg.Host.Mounts {
		m := &sess.cfg.Host.Mounts[i]
		if !isVolume(*m) {
			continue
		}
		hold, err := mounted.Volume(m).Hold(userns.RunDefault)
		if err != nil {
			return err
		}
		sess.volumes = append(sess.volumes, hold)
	}
	return nil
}

// releaseVolumes ends that. Nothing of the container may run any more.
func (sess *session) releaseVolumes() {
	for _, hold := range sess.volumes {
		if err := hold.Release(userns.RunDefault); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	sess.volumes = nil
}
