package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mica/run"
	"mica/run/build"
	"mica/run/record"
)

// buildFlags are the flags of build.
type buildFlags struct {
	file, target, iidfile, pull, timestamp, progress, output string
	tags, args, argFiles, labels, contexts, secrets, ssh     []string
	anew, env                                                []string
	ignoreFile, metadataFile, from, logfile                  string
	quiet, noCache, squashAll                                bool
	host                                                     containerFlags // what of it concerns the containers of the build
}

func (f *buildFlags) register(fl *pflag.FlagSet) {
	fl.StringVarP(&f.file, "file", "f", "", "the Dockerfile; - is standard input (default Containerfile or Dockerfile in the context)")
	fl.StringArrayVarP(&f.tags, "tag", "t", nil, "name of the image, NAME[:TAG]")
	fl.StringArrayVar(&f.args, "build-arg", nil, "give an ARG a value: NAME=VALUE, or NAME for that of the variable")
	fl.StringArrayVar(&f.argFiles, "build-arg-file", nil, "read build arguments from a file, one per line")
	fl.StringArrayVar(&f.env, "env", nil, "variable that stages and the image begin with: NAME=VALUE, or NAME for that of this machine")
	fl.StringVar(&f.from, "from", "", "what the first stage begins with, instead of what its FROM says")
	fl.StringVar(&f.target, "target", "", "stage to build (default the last)")
	fl.StringArrayVar(&f.labels, "label", nil, "set a label KEY=VALUE")
	fl.BoolVar(&f.noCache, "no-cache", false, "do every step anew")
	fl.StringSliceVar(&f.anew, "no-cache-filter", nil, "do every step of these stages anew")
	fl.StringVar(&f.pull, "pull", pullMissing, "ask a registry for the images that stages begin with: when they are missing, always, never, or newer")
	fl.Lookup("pull").NoOptDefVal = pullAlways
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print the ID only, and what failed")
	fl.BoolVar(&f.squashAll, "squash-all", false, "make an image with one layer, which has the files of the base image too")
	fl.StringVar(&f.logfile, "logfile", "", "write what is told of the build to this file")
	fl.StringVar(&f.iidfile, "iidfile", "", "write the image's ID to this file")
	fl.StringVar(&f.metadataFile, "metadata-file", "", "write the image's digests to this file, as JSON")
	fl.StringArrayVar(&f.contexts, "build-context", nil, "a further context, NAME=DIRECTORY or NAME=docker-image://IMAGE, for FROM and --from")
	fl.StringArrayVar(&f.secrets, "secret", nil, "what RUN --mount=type=secret shows: id=ID,src=FILE or id=ID,env=VARIABLE")
	fl.StringArrayVar(&f.ssh, "ssh", nil, "the agent that RUN --mount=type=ssh shows: default or ID=SOCKET")
	fl.StringVar(&f.ignoreFile, "ignorefile", "", "file of patterns of what in the context is left out (default .containerignore or .dockerignore)")
	fl.StringVarP(&f.output, "output", "o", "", "write what is built there, too: a directory, - for an archive on standard output, or type=local|tar|oci|docker,dest=PATH")
	fl.StringVar(&f.timestamp, "timestamp", "", "seconds since 1970 that the image bears, and what is younger of its new files (default $SOURCE_DATE_EPOCH, or now)")
	fl.StringVar(&f.progress, "progress", "auto", "auto, plain or tty, which are one; quiet for --quiet")
	h := &f.host
	fl.StringVar(&h.network, "network", "", "network of commands: host, none or pasta (default host)")
	fl.StringArrayVar(&h.addHosts, "add-host", nil, "add NAME:ADDRESS to the /etc/hosts of commands")
	fl.StringArrayVar(&h.dns, "dns", nil, "name server of commands")
	fl.StringArrayVarP(&h.volumes, "volume", "v", nil, "mount a host path or a named volume for commands: SRC:DST[:ro]")
	fl.StringSliceVar(&h.capAdd, "cap-add", nil, "add capabilities to those of commands, or ALL")
	fl.StringSliceVar(&h.capDrop, "cap-drop", nil, "drop capabilities, or ALL")
	fl.StringArrayVar(&h.securityOpt, "security-opt", nil, "no-new-privileges, seccomp=unconfined, seccomp=FILE")
	fl.StringVar(&h.userns, "userns", "auto", "ids of commands: auto (or host, private), full (subordinate ids), single")
	fl.StringArrayVar(&h.ulimits, "ulimit", nil, "resource limit of commands NAME=SOFT[:HARD]")
	fl.StringVar(&h.shmSize, "shm-size", "", "size of /dev/shm for commands (default 64m)")
	fl.StringVarP(&h.memory, "memory", "m", "", "limit of memory of commands, such as 512m")
	fl.StringVar(&h.platform, "platform", "", "accepted when it is this machine's")
	h.registry.register(fl)
	registerIdleBuild(fl)
}

// idleBuildFlags are those of Docker and Podman that ask for what mica does anyway, or what a build can do without.
var idleBuildFlags = map[string]string{
	"rm": "true", "force-rm": "true", "layers": "true", "compress": "true", "disable-content-trust": "true", "load": "true", "jobs": "", "format": "",
	"cache-from": "", "cache-to": "", "isolation": "", "provenance": "", "sbom": "", "builder": "", "cgroup-parent": "", "cpu-shares": "",
	"cpu-period": "", "cpu-quota": "", "cpuset-cpus": "", "cpuset-mems": "", "memory-swap": "", "omit-history": "true", "squash": "",
}

func registerIdleBuild(fl *pflag.FlagSet) {
	for name, noValue := range idleBuildFlags {
		fl.StringArray(name, nil, "")
		if noValue != "" {
			fl.Lookup(name).NoOptDefVal = noValue
		}
		_ = fl.MarkHidden(name)
	}
}

func (a *app) newBuildCommand() *cobra.Command {
	var f buildFlags
	c := &cobra.Command{
		Use:   "build [flags] PATH | URL | -",
		Short: "Make an image as a Dockerfile describes it",
		Long: `Make an image as a Dockerfile describes it, with the files of a directory: the context. The context may be an archive or a
Dockerfile alone on standard input, the address of a git repository, ADDRESS.git[#REF[:DIRECTORY]], or that of an archive.

Commands run as "mica run" runs them, with the network of this machine unless --network says otherwise. Every step that changes files is
kept, so that the next build need not do it again; "mica images -a" shows the steps, "mica builder prune" removes them.

What is told of the build goes to standard error, the image's ID to standard output. The exit code is 1 when a command of the build failed.`,
		Example: lines("mica build -t sample-app .", "mica build -t app --build-arg VERSION=2 --target test -f docker/Dockerfile .",
			"mica build -t app https://host.example/app.git#main:image", "mica build -t hello - < Dockerfile"),
		Args: cobra.MaximumNArgs(1),
	}
	f.register(c.Flags())
	c.RunE = tidily(func(c *cobra.Command, args []string) error { return a.build(c, &f, args) })
	return c
}

// exitCommand is the exit code of a build in which a command has failed, as Docker has it.
const exitCommand = 1

// build does what the command line says.
func (a *app) build(c *cobra.Command, f *buildFlags, args []string) error {
	ctx := c.Context()
	output, err := parseOutput(f.output)
	if err != nil {
		return err
	}
	e, err := a.open()
	if err != nil {
		return err
	}
	opt := build.Options{
		Tags: f.tags, From: f.from, Target: f.target, Squash: f.squashAll, NoCache: f.noCache, Anew: f.anew, Out: os.Stderr, Contexts: make(map[string]build.Context),
		Secrets: make(map[string]build.Secret), SSH: make(map[string]string),
	}
	var said bytes.Buffer
	if f.quiet || f.progress == "quiet" {
		opt.Out = &said
	}
	if f.logfile != "" {
		log, err := os.Create(f.logfile)
		if err != nil {
			return err
		}
		defer log.Close()
		opt.Out = log
	}
	s, err := e.Store()
	if err != nil {
		return err
	}
	temp, release, err := s.Scratch("context")
	if err != nil {
		return err
	}
	defer release()
	if err := f.fill(ctx, &opt, c, args, temp); err != nil {
		return err
	}
	defer closeContexts(&opt)
	opt.Pull = func(ctx context.Context, ref string, missing bool) error { return a.pullBase(ctx, f, ref, missing) }
	id, err := build.Build(ctx, e, &opt)
	if command := new(build.CommandError); errors.As(err, &command) {
		os.Stderr.Write(said.Bytes())
		return &failed{exitCommand, err}
	}
	if err != nil {
		return err
	}
	if f.iidfile != "" {
		if err := os.WriteFile(f.iidfile, []byte(id), 0o644); err != nil {
			return fmt.Errorf("write the image's ID: %w", err)
		}
	}
	if f.metadataFile != "" {
		if err := writeMetadata(f.metadataFile, s, id, f.tags); err != nil {
			return fmt.Errorf("write the image's digests: %w", err)
		}
	}
	for _, tag := range f.tags {
		fmt.Fprintln(opt.Out, "Tagged", tag)
	}
	if err := output.write(ctx, e, id, f.tags); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if output.dest != "-" {
		fmt.Fprintln(stdout, id)
	}
	return nil
}

func closeContexts(opt *build.Options) {
	if opt.Context != nil {
		opt.Context.Close()
	}
	for _, c := range opt.Contexts {
		if c.Dir != nil {
			c.Dir.Close()
		}
	}
}

// pullBase brings an image that a stage begins with, as --pull says.
func (a *app) pullBase(ctx context.Context, f *buildFlags, ref string, missing bool) error {
	h := &f.host
	h.quiet = f.quiet
	if isID(ref) || f.pull == pullNever || f.pull == pullMissing && !missing {
		return nil
	}
	err := a.fetch(ctx, h, ref, missing)
	if !missing && f.pull == pullNewer && ctx.Err() == nil {
		return nil
	}
	return err
}

// fill reads the flags, and what they name.
func (f *buildFlags) fill(ctx context.Context, opt *build.Options, c *cobra.Command, args []string, temp string) error {
	if f.pull == "true" || f.pull == "false" { // Docker has it as a switch
		f.pull = map[string]string{"true": pullAlways, "false": pullMissing}[f.pull]
	}
	var idle []string
	for name, noValue := range idleBuildFlags {
		if noValue == "" && c.Flags().Changed(name) {
			idle = append(idle, "--"+name)
		}
	}
	if len(idle) > 0 {
		fmt.Fprintln(os.Stderr, "mica: without effect:", strings.Join(idle, ", "))
	}
	steps := []func() error{
		func() error { return checkPull(f.pull) },
		func() error { return checkPlatform(f.host.platform) },
		func() (err error) { opt.Args, err = namedValues(f.argFiles, f.args); return },
		func() (err error) { opt.Env, err = namedValues(nil, f.env); return },
		func() (err error) { opt.Labels, err = readLabels(nil, f.labels); return },
		func() (err error) { opt.Created, err = f.created(opt.Args); return },
		func() (err error) { opt.Host, err = f.hostConfig(); return },
		func() error { return f.readSecrets(opt) },
		func() error { return f.readContexts(ctx, opt, temp) },
		func() error { return f.readContext(ctx, opt, args, temp) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// namedValues reads NAME=VALUE. What is named alone has the value of the variable; one that is not set is not given.
func namedValues(files, given []string) (map[string]string, error) {
	list, err := readEnv(files, given)
	if err != nil {
		return nil, err
	}
	if list, err = run.ResolveEnv(list); err != nil {
		return nil, err
	}
	values := make(map[string]string, len(list))
	for _, kv := range list {
		name, value, _ := strings.Cut(kv, "=")
		values[name] = value
	}
	return values, nil
}

// epochVariable says how old a build is to look; see reproducible-builds.org.
const epochVariable = "SOURCE_DATE_EPOCH"

// created is the time that the image bears; zero is now. A Dockerfile that asks for the variable gets it.
func (f *buildFlags) created(args map[string]string) (time.Time, error) {
	if value, set := os.LookupEnv(epochVariable); set && args[epochVariable] == "" {
		args[epochVariable] = value
	}
	text := cmp.Or(f.timestamp, args[epochVariable])
	if text == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("timestamp %q: want seconds since 1970", text)
	}
	return time.Unix(n, 0).UTC(), nil
}

// hostConfig is what commands of the build ask of the machine.
func (f *buildFlags) hostConfig() (h record.HostConfig, err error) {
	given := &f.host
	h = record.HostConfig{UserNS: given.userns, CapAdd: given.capAdd, CapDrop: given.capDrop, ExtraHosts: given.addHosts, DNS: given.dns}
	for _, step := range []func() error{
		func() error { return checkDNS(given.dns) },
		func() (err error) { h.Network, err = chooseNetwork(given.network, false); return },
		func() (err error) { h.Mounts, err = parseMounts(given.volumes, nil, nil); return },
		func() (err error) { h.Ulimits, err = parseUlimits(given.ulimits); return },
		func() (err error) { h.SecurityOpt, err = readSecurity(given.securityOpt); return },
		func() error { return given.limits(&h) },
	} {
		if err := step(); err != nil {
			return h, err
		}
	}
	return h, nil
}
