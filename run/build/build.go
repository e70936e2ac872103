package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"mica/layerstore"
	"mica/run"
	"mica/run/record"
)

// Options say what is built, and how.
type Options struct {
	Dockerfile []byte
	Name       string             // of the Dockerfile, for messages
	Context    *Dir               // what COPY and ADD take files from; nil: nothing
	Contexts   map[string]Context // further ones, by the names that FROM and --from know them by
	From       string             // what the first stage begins with; empty: what it says
	Target     string             // stage to build; empty: the last one
	Tags       []string
	Args       map[string]string
	Labels     map[string]string
	Env        map[string]string // variables that stages begin with
	Squash     bool              // the image has one layer
	NoCache    bool
	Anew       []string // stages that are not taken from earlier builds either
	Secrets    map[string]Secret
	SSH        map[string]string // sockets of agents, by ID
	Host       record.HostConfig // of the containers in which commands run
	Created    time.Time         // that the image bears, and what is younger of its new files; zero: now

	// Pull brings the image that a stage begins with, which is missing if missing is set. It may decline, with a nil error.
	Pull func(ctx context.Context, ref string, missing bool) error
	// Out takes what is told of the build, and what commands write.
	Out io.Writer
}

// Context is what a name for files stands for.
type Context struct {
	Dir   *Dir   // a directory of the host
	Image string // or an image
}

// Secret is what a command may see and no layer holds.
type Secret struct {
	File string // that holds it
	Env  string // variable of this process that does
}

// CommandError says that a command of the build has failed.
type CommandError struct {
	Command string
	Code    int
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("the command %q returned a non-zero code: %d", e.Command, e.Code)
}

// builder builds one image.
type builder struct {
	e       *run.Engine
	store   *layerstore.Store
	opt     *Options
	scratch string // directory of its own, for as long as the build lasts
	parsed  []instructions.Stage
	escape  rune
	global  scope // variables of before the first stage
	stages  map[int]*stage
	trees   map[string]*imageTree // of images that files are copied from, by ID
	used    map[string]bool       // build arguments that something asked for
	pulled  map[string]bool       // images that a registry has been asked for
	opened  []*Dir                // to be closed at the end
}

// Build builds an image and gives its ID. Nothing is tagged before all is done; after an error nothing is left but steps that a
// later build can use.
func Build(ctx context.Context, e *run.Engine, opt *Options) (id string, err error) {
	b := &builder{
		e: e, opt: opt, stages: make(map[int]*stage), trees: make(map[string]*imageTree), used: make(map[string]bool), pulled: make(map[string]bool),
	}
	for _, tag := range opt.Tags {
		if _, err := layerstore.NormalizeName(tag); err != nil {
			return "", err
		}
	}
	if b.store, err = e.Store(); err != nil {
		return "", err
	}
	target, err := b.parse()
	if err != nil {
		return "", b.unparsed(err)
	}
	scratch, release, err := b.store.Scratch("build")
	if err != nil {
		return "", err
	}
	defer release()
	b.scratch = scratch
	defer func() { err = errors.Join(err, b.close()) }()
	st, err := b.stage(ctx, target)
	if err != nil {
		return "", err
	}
	if id, err = b.finish(ctx, st); err != nil {
		return "", err
	}
	for name := range opt.Args {
		if !b.used[name] && !isProxy(name) && name != "SOURCE_DATE_EPOCH" {
			b.say("warning: nothing in the Dockerfile asks for the build argument %s", name)
		}
	}
	if err := b.close(); err != nil {
		return "", err
	}
	for _, tag := range opt.Tags {
		if err := b.store.Tag(id, tag); err != nil {
			return "", err
		}
	}
	return id, nil
}

// close gives up what is open.
func (b *builder) close() error {
	for _, d := range b.opened {
		d.Close()
	}
	b.opened = nil
	return b.closeTrees()
}

// parse reads the Dockerfile and gives the stage to build.
func (b *builder) parse() (target int, err error) {
	res, err := parser.Parse(bytes.NewReader(b.opt.Dockerfile))
	if err != nil {
		return 0, err
	}
	b.escape = res.EscapeToken
	dropRelabels(res.AST)
	var meta []instructions.ArgCommand
	if b.parsed, meta, err = instructions.Parse(res.AST, nil); err != nil {
		return 0, err
	}
	if len(b.parsed) == 0 {
		return 0, errors.New("there is no stage: it has to begin with FROM")
	}
	if b.opt.From != "" {
		b.parsed[0].BaseName = b.opt.From
	}
	b.global = platformScope()
	for _, cmd := range meta {
		if err := layerstore.Expand(&cmd, b.escape, b.global.env()); err != nil {
			return 0, parser.WithLocation(err, cmd.Location())
		}
		for _, a := range cmd.Args {
			b.declare(b.global, nil, a)
		}
	}
	if b.opt.Target == "" {
		return len(b.parsed) - 1, nil
	}
	if n, ok := b.stageNamed(b.opt.Target, len(b.parsed)); ok {
		return n, nil
	}
	return 0, fmt.Errorf("there is no stage %q: %s", b.opt.Target, b.stageNames())
}

// unparsed is an error in the grammar, with its place.
func (b *builder) unparsed(err error) error {
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 && at.Locations[0][0].Start.Line > 0 {
		return b.located(at.Unwrap(), at.Locations[0])
	}
	return fmt.Errorf("%s: %w", b.opt.Name, err)
}

// stageNamed finds a stage by name or number among the first n.
func (b *builder) stageNamed(name string, n int) (int, bool) {
	if i, ok := instructions.HasStage(b.parsed[:n], name); ok {
		return i, true
	}
	var i int
	if _, err := fmt.Sscanf(name, "%d", &i); err == nil && fmt.Sprint(i) == name && i >= 0 && i < n {
		return i, true
	}
	return 0, false
}

func (b *builder) stageNames() string {
	var names []string
	for i, st := range b.parsed {
		if st.Name != "" {
			names = append(names, st.Name)
		} else {
			names = append(names, fmt.Sprint(i))
		}
	}
	return "there is " + strings.Join(names, ", ")
}

// expand replaces the variables of before the first stage in a word.
func (b *builder) expand(word string) (string, error) {
	out, _, err := shell.NewLex(b.escape).ProcessWord(word, b.global.env())
	return out, err
}

// say tells of the build.
func (b *builder) say(format string, args ...any) { fmt.Fprintf(b.opt.Out, format+"\n", args...) }

// finish adds the labels of the command line and gives the image of the last stage.
func (b *builder) finish(ctx context.Context, st *stage) (string, error) {
	if len(b.opt.Labels) > 0 {
		text, err := st.edit.Apply(&instructions.LabelCommand{Labels: sortedPairs(b.opt.Labels)}, b.escape, nil)
		if err != nil {
			return "", err
		}
		st.note(text)
		if err := st.settle(ctx); err != nil {
			return "", err
		}
	}
	if b.opt.Squash {
		return b.squash(ctx, st)
	}
	return st.img.ID, nil
}

// squash makes an image with the files and configuration of a stage, and with one layer.
func (b *builder) squash(ctx context.Context, st *stage) (string, error) {
	t, err := b.tree(ctx, st.img)
	if err != nil {
		return "", err
	}
	items, err := match(ctx, t, ".", false)
	if err != nil {
		return "", err
	}
	one := &stage{b: b, name: st.name, n: st.n, anew: st.anew, cfg: st.cfg, author: st.author, step: st.step, steps: st.steps}
	err = one.put(ctx, &copyStep{name: "COPY", items: items, dest: "/", text: "COPY " + st.img.ID + " /", shown: "squash all layers"})
	if err != nil {
		return "", fmt.Errorf("squash: %w", err)
	}
	return one.img.ID, nil
}
