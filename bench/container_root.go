package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// buildContainer makes the smallest root filesystem that runs something: /bin/true and /bin/false, static, and as
// root.tar the same for import. A real root filesystem takes its place where the task names one.
func buildContainer(dir string, t *task) (int, error) {
	layer := filepath.Join(dir, "l0")
	entries := []entry{}
	if t.RootDir != "" {
		var err error
		if entries, err = scanRoot(t.RootDir); err != nil {
			return 0, err
		}
	} else {
		for name, code := range map[string]byte{"true": 0, "false": 1} {
			program, err := exitProgram(runtime.GOARCH, code)
			if err != nil {
				return 0, err
			}
			src := filepath.Join(dir, name)
			if err := os.WriteFile(src, program, 0o755); err != nil {
				return 0, fmt.Errorf("write program: %w", err)
			}
			entries = append(entries, entry{path: "bin/" + name, mode: 0o755, source: src})
		}
		for _, d := range []string{"dev", "etc", "proc", "run", "sys", "tmp", "data"} {
			entries = append(entries, entry{path: d, mode: fs.ModeDir | 0o755})
		}
	}
	if err := writeTree(layer, -1, entries); err != nil {
		return 0, err
	}
	return 1, writeTar(filepath.Join(dir, "root.tar"), layer, entries)
}

// exitProgram is a static ELF executable that does nothing but exit with a code.
func exitProgram(arch string, code byte) ([]byte, error) {
	var machine uint16
	var text []byte
	switch arch {
	case "amd64": // mov edi, code; mov eax, SYS_exit; syscall
		machine, text = 62, []byte{0xbf, code, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05}
	case "arm64": // mov x0, code; mov x8, SYS_exit; svc 0
		machine, text = 183, binary.LittleEndian.AppendUint32(nil, 0xd2800000|uint32(code)<<5)
		text = binary.LittleEndian.AppendUint32(text, 0xd2800ba8)
		text = binary.LittleEndian.AppendUint32(text, 0xd4000001)
	default:
		return nil, fmt.Errorf("make a static program: none is known for %s; name a root filesystem with --rootfs DIR", arch)
	}
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(text))
	elf := struct {
		Ident                      [16]byte
		Type, Machine              uint16
		Version                    uint32
		Entry, Phoff, Shoff        uint64
		Flags                      uint32
		Ehsize, Phentsize, Phnum   uint16
		Shentsize, Shnum, Shstrndx uint16
		PType, PFlags              uint32
		Offset, Vaddr, Paddr       uint64
		Filesz, Memsz, Align       uint64
	}{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: 2, Machine: machine, Version: 1,
		Entry: base + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
		PType: 1, PFlags: 5, Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000,
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, elf); err != nil {
		return nil, fmt.Errorf("make a static program: %w", err)
	}
	return append(b.Bytes(), text...), nil
}
