package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// smallFileWorkloads work on many files of 4 KiB.
func smallFileWorkloads() []Workload {
	var all []Workload
	for _, n := range []int{1, 4} {
		threads := fmt.Sprintf("%d thread", n)
		if n > 1 {
			threads += "s"
		}
		all = append(all,
			Workload{Name: "create-" + strconv.Itoa(n), About: "create, write 4 KiB and close, " + threads,
				prepare: makeThreadDirs(n), pass: eachThread(n, createSmall), answer: smallAnswer},
			Workload{Name: "write-" + strconv.Itoa(n), About: "open, rewrite 4 KiB and close of new files, " + threads,
				prepare: makeSmall(n), pass: eachThread(n, writeSmall), answer: smallAnswer},
			Workload{Name: "unlink-" + strconv.Itoa(n), About: "unlink of new files, " + threads,
				prepare: makeSmall(n), pass: eachThread(n, unix.Unlink), answer: smallAnswer})
	}
	for i := range all {
		all[i].Group, all[i].Once, all[i].Quick = "small-files", true, true
	}
	return all
}

// smallSize is the size of a small file.
const smallSize = 4096

func makeThreadDirs(threads int) func(*env) error {
	return func(e *env) error {
		for i := range threads {
			if err := os.Mkdir(e.path("t"+strconv.Itoa(i)), 0o755); err != nil {
				return fmt.Errorf("make directory: %w", err)
			}
		}
		return nil
	}
}

func makeSmall(threads int) func(*env) error {
	return func(e *env) error {
		if err := makeThreadDirs(threads)(e); err != nil {
			return err
		}
		_, err := eachThread(threads, createSmall)(e)
		return err
	}
}

// eachThread does an operation on the small files, spread over threads that have a directory each.
func eachThread(threads int, do func(path string) error) func(*env) (int, error) {
	return func(e *env) (int, error) {
		each := e.t.Scale.SmallFiles / threads
		errs := make([]error, threads)
		var wg sync.WaitGroup
		for i := range threads {
			wg.Go(func() {
				dir := e.path("t" + strconv.Itoa(i))
				for j := range each {
					if err := do(dir + "/file" + strconv.Itoa(j)); err != nil {
						errs[i] = fmt.Errorf("file %d of thread %d: %w", j, i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		return each * threads, errors.Join(errs...)
	}
}

func createSmall(path string) error { return putSmall(path, unix.O_CREAT|unix.O_EXCL, 'c') }

func writeSmall(path string) error { return putSmall(path, 0, 'w') }

func putSmall(path string, flags int, with byte) error {
	var block [smallSize]byte
	for i := range block {
		block[i] = with
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC|flags, 0o644)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, block[:])
	return errors.Join(err, unix.Close(fd))
}

// smallAnswer sums what is left in the threads' directories.
func smallAnswer(e *env) (string, error) {
	dirs, err := filepath.Glob(e.path("t[0-9]"))
	if err != nil {
		return "", fmt.Errorf("list directories: %w", err)
	}
	answer := ""
	for _, d := range dirs {
		sum, err := treeSum(d)
		if err != nil {
			return "", err
		}
		answer += filepath.Base(d) + ": " + sum + "; "
	}
	return answer, nil
}
