package dropin

import (
	"fmt"
	"strconv"
	"strings"
)

// overflowID is what an id outside all ranges is shown as.
const overflowID = 65534

// idRange maps size ids from disk, which containers/storage fills with the
// container's ids, to shown: those of the host that the container's user
// namespace turns back.
type idRange struct {
	disk, shown, size uint32
}

// parseRanges reads disk:shown:size triples. A leading colon is allowed.
func parseRanges(key, value string) ([]idRange, error) {
	fields := strings.Split(strings.TrimPrefix(value, ":"), ":")
	if len(fields)%3 != 0 {
		return nil, fmt.Errorf("option %s=%s: want triples of an id on disk, the id to show for it, and how many", key, value)
	}
	var ranges []idRange
	for ; len(fields) > 0; fields = fields[3:] {
		var n [3]uint32
		for i := range n {
			v, err := strconv.ParseUint(fields[i], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("option %s=%s: %q is not a number", key, value, fields[i])
			}
			n[i] = uint32(v)
		}
		ranges = append(ranges, idRange{n[0], n[1], n[2]})
	}
	return ranges, nil
}

// mappers gives the functions from the disk to the mount and back.
func mappers(ranges []idRange, squash *uint32) (show, store func(uint32) uint32) {
	if squash != nil {
		id := *squash
		show = func(uint32) uint32 { return id }
	}
	if len(ranges) == 0 {
		return show, nil
	}
	if show == nil {
		show = func(id uint32) uint32 {
			for _, r := range ranges {
				if id-r.disk < r.size {
					return id - r.disk + r.shown
				}
			}
			return overflowID
		}
	}
	store = func(id uint32) uint32 {
		for _, r := range ranges {
			if id-r.shown < r.size {
				return id - r.shown + r.disk
			}
		}
		return overflowID
	}
	return show, store
}
