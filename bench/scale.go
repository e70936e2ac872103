package bench

// scale is the sizes of everything; it is part of the report, so that only like is compared with like.
type scale struct {
	RootFiles, RootDirs, RootLayers int
	SourceFiles, SourceDirs         int
	BigBytes                        int64
	DirFiles                        int
	LayerFiles                      int
	ManyFiles                       int
	SmallFiles                      int
	FioBytes                        int64
	SqliteSync, SqliteFast          int
	GoPackages                      int
	CommitFiles                     int
	// MinPassMillis is how long the passes of one warm sample last together at least.
	MinPassMillis int
}

func fullScale() scale {
	return scale{
		RootFiles: 9000, RootDirs: 900, RootLayers: 10,
		SourceFiles: 5000, SourceDirs: 400,
		BigBytes: 1 << 30, DirFiles: 10000, LayerFiles: 5000, ManyFiles: 500000,
		SmallFiles: 2000, FioBytes: 256 << 20, SqliteSync: 100, SqliteFast: 5000,
		GoPackages: 60, CommitFiles: 10000, MinPassMillis: 200,
	}
}

func quickScale() scale {
	return scale{
		RootFiles: 2000, RootDirs: 200, RootLayers: 10,
		SourceFiles: 300, SourceDirs: 30,
		BigBytes: 64 << 20, DirFiles: 300, LayerFiles: 500, ManyFiles: 10000,
		SmallFiles: 200, FioBytes: 32 << 20, SqliteSync: 10, SqliteFast: 200,
		GoPackages: 5, CommitFiles: 1000, MinPassMillis: 20,
	}
}
