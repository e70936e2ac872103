package supervise

import (
	"fmt"
	"slices"
	"strings"

	"mica/run/generated"
	"mica/run/ports"
	"mica/run/record"
	"mica/run/sandbox"
)

// setNetwork puts network and ports in the terms of the sandbox.
func setNetwork(box *sandbox.Config, h *record.HostConfig) error {
	switch h.Network {
	case "", "host":
		box.Network = sandbox.NetworkHost
	case "none":
		box.Network = sandbox.NetworkNone
	case "pasta":
		box.Network, box.HostAtGateway = sandbox.NetworkPasta, generated.WantsHostGateway(h)
		if err := ports.Check(h.Ports); err != nil {
			return err
		}
		for _, p := range h.Ports {
			box.Ports = append(box.Ports, sandbox.Port{HostIP: p.HostIP, Host: p.Host, Sandbox: p.Container, Protocol: p.Protocol})
		}
	default:
		return fmt.Errorf("network %q: want host, none or pasta", h.Network)
	}
	return nil
}

// setShared puts --ipc, --uts and --cgroupns in the terms of the sandbox.
func setShared(box *sandbox.Config, h *record.HostConfig) {
	box.Shared = sandbox.Shared{IPC: slices.Contains(h.Share, "ipc"), UTS: slices.Contains(h.Share, "uts"), Cgroup: slices.Contains(h.Share, "cgroup")}
	if box.Shared.UTS {
		box.Hostname, box.Domain = "", ""
	}
}

// setSysctls puts --sysctl in the terms of the sandbox. What is not a namespace's own is the machine's.
func setSysctls(box *sandbox.Config, h *record.HostConfig) error {
	for _, s := range h.Sysctls {
		name := s[0]
		net := strings.HasPrefix(name, "net.")
		if !net && !strings.HasPrefix(name, "fs.mqueue.") && !slices.Contains(ipcSysctls, name) {
			return fmt.Errorf("--sysctl %s: it is the machine's, not a container's own: want net.*, fs.mqueue.* or one of %s", name, strings.Join(ipcSysctls, ", "))
		}
		if net && box.Network == sandbox.NetworkHost {
			return fmt.Errorf("--sysctl %s: with the machine's network it is the machine's: choose --network pasta or none", name)
		}
		if !net && box.Shared.IPC {
			return fmt.Errorf("--sysctl %s: with --ipc host it is the machine's: leave one of them out", name)
		}
		box.Sysctls = append(box.Sysctls, sandbox.Sysctl{Name: name, Value: s[1]})
	}
	return nil
}

// ipcSysctls are those of the namespace of System V IPC.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// setSecurity puts --privileged and --security-opt in the terms of the sandbox.
func setSecurity(box *sandbox.Config, h *record.HostConfig) error {
	if h.Privileged {
		box.Caps = sandbox.Caps{Add: []string{"ALL"}, Drop: h.CapDrop}
		box.Seccomp.Mode = sandbox.SeccompUnconfined
		box.MaskedPaths, box.ReadOnlyPaths = []string{}, []string{}
	}
	for _, opt := range h.SecurityOpt {
		key, value, has := strings.Cut(opt, "=")
		if !has {
			key, value, has = strings.Cut(opt, ":")
		}
		switch {
		case key == "no-new-privileges" && (!has || value == "true"):
			box.NoNewPrivs = true
		case key == "no-new-privileges" && value == "false":
			box.NoNewPrivs = false
		case key == "seccomp" && value == "unconfined":
			box.Seccomp = sandbox.Seccomp{Mode: sandbox.SeccompUnconfined}
		case key == "seccomp" && has:
			box.Seccomp = sandbox.Seccomp{Mode: sandbox.SeccompFile, Profile: []byte(value)}
		case key == "systempaths" && value == "unconfined" || key == "unmask" && strings.EqualFold(value, "all"):
			box.MaskedPaths, box.ReadOnlyPaths = []string{}, []string{}
		case key == "label" || key == "apparmor" && value == "unconfined":
			// No label is ever set, so there is none to change.
		default:
			return fmt.Errorf("security option %q: want no-new-privileges, seccomp=unconfined, seccomp=FILE or systempaths=unconfined", opt)
		}
	}
	return nil
}
