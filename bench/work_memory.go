package bench

import "os"

// memoryWorkloads measure the memory of a server, which kernel filesystems and directories do not have.
func memoryWorkloads() []Workload {
	return []Workload{
		{Name: "memory-idle", Group: "memory", About: "resident memory of the server after the mount", Unit: "kB", Fixture: "root",
			Quick: true, Once: true, ServerOnly: true, answer: foundAnswer,
			pass: func(e *env) (int, error) {
				_, err := os.Stat(e.root)
				return 1, err
			}},
		{Name: "memory-find", Group: "memory", About: "resident memory of the server after a stat of a great many files; an operation is one name", Unit: "kB", Fixture: "many",
			Quick: true, Once: true, ServerOnly: true, MaxRuns: 3, Needs: []Tool{{"find", "findutils"}}, answer: foundAnswer,
			pass: func(e *env) (int, error) {
				var l lineSum
				if err := pipe(e, &l, "find", ".", "-size", "-1000k"); err != nil {
					return 0, err
				}
				return l.lines, nil
			}},
	}
}
