package volume

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// walker stands in a directory of a volume and goes on from there, by one name at a time: a container may have made the way
// longer than any call takes, and than there are descriptors.
type walker struct {
	fd  int       // of the directory where it stands
	way []visited // to there, the volume's content first

	marked, low int // how long the way was at the last mark, and at its shortest since then
}

type visited struct {
	name     string
	dev, ino uint64
}

// newWalker stands in the content of the volume in dir.
func newWalker(dir string) (*walker, error) {
	fd, err := sys.OpenDir(unix.AT_FDCWD, filepath.Join(dir, dataDir))
	if err != nil {
		return nil, fmt.Errorf("open the content of the volume: %w", err)
	}
	w := &walker{fd: fd, marked: 1, low: 1}
	if err := w.push(fd, "."); err != nil {
		sys.Close(fd)
		return nil, err
	}
	return w, nil
}

func (w *walker) close() { sys.Close(w.fd) }

func (w *walker) push(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return w.error("look at", err)
	}
	w.way = append(w.way, visited{name, st.Dev, st.Ino})
	return nil
}

// enter goes down into a directory. It is false where there is none, or not any more.
func (w *walker) enter(name string) (bool, error) {
	fd, err := sys.OpenDir(w.fd, name)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return false, nil
	}
	if err == nil {
		if err = w.push(fd, name); err == nil {
			sys.Close(w.fd)
			w.fd = fd
			return true, nil
		}
		sys.Close(fd)
	}
	return false, fmt.Errorf("open %s in %s: %w", name, w.path(), err)
}

// leave goes up again, to where it came from and nowhere else.
func (w *walker) leave() error {
	fd, err := sys.OpenDir(w.fd, "..")
	if err != nil {
		return w.error("leave", err)
	}
	var st unix.Stat_t
	up := w.way[len(w.way)-2]
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != up.dev || st.Ino != up.ino {
		sys.Close(fd)
		return w.error("leave", errors.Join(err, errors.New("it has been moved meanwhile")))
	}
	sys.Close(w.fd)
	w.fd, w.way = fd, w.way[:len(w.way)-1]
	w.low = min(w.low, len(w.way))
	return nil
}

// path is where it stands, below the volume's content.
func (w *walker) path() string { return w.pathFrom(0) }

// pathFrom is the end of the way, after so many names.
func (w *walker) pathFrom(n int) string {
	var p []byte
	for _, v := range w.way[n:] {
		if len(p) > 0 {
			p = append(p, '/')
		}
		p = append(p, v.name...)
	}
	return path.Clean(string(p))
}

func (w *walker) error(what string, err error) error {
	return fmt.Errorf("%s %s: %w", what, w.path(), err)
}

// walk visits where it stands and all directories below.
func (w *walker) walk(visit func(st *unix.Stat_t) error) error {
	var st unix.Stat_t
	if err := unix.Fstat(w.fd, &st); err != nil {
		return w.error("look at", err)
	}
	if err := visit(&st); err != nil {
		return err
	}
	var below []string
	err := sys.List(w.fd, func(name []byte, typ uint8, _ uint64) error {
		if typ == unix.DT_DIR || typ == unix.DT_UNKNOWN {
			below = append(below, string(name))
		}
		return nil
	})
	if err != nil && err != unix.ENOENT { // it has been removed meanwhile
		return w.error("list", err)
	}
	for _, name := range below {
		entered, err := w.enter(name)
		if err == nil && entered {
			if err = w.walk(visit); err == nil {
				err = w.leave()
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mark gives how many steps up, and then which way down, lead here from the last mark, or else from where the walk began.
func (w *walker) mark() (up int, down string) {
	up, down = w.marked-w.low, w.pathFrom(w.low)
	w.marked, w.low = len(w.way), len(w.way)
	return up, down
}
