package sandbox

import "testing"

func BenchmarkStart(b *testing.B) {
	for name, mode := range map[string]IDMode{"single": IDsSingle, "full": IDsFull} {
		b.Run(name, func(b *testing.B) {
			ids, err := ResolveIDs(mode)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				cfg := sh("")
				cfg.IDs = ids
				cfg.Process.Args = []string{"/bin/true"}
				s, err := Start(b.Context(), cfg)
				if err != nil {
					b.Fatal(err)
				}
				if st, err := s.Wait(); err != nil || st.Code != 0 {
					b.Fatal(st, err)
				}
			}
		})
	}
}
