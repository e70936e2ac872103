package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"mica/cow"
	"mica/internal/environ"
	"mica/layerstore"
	"mica/run"
	"mica/run/control"
)

// stage is a stage that is being built, or has been.
type stage struct {
	b    *builder
	name string
	n    int                        // its number
	anew bool                       // no step of it is taken from an earlier build
	img  *layerstore.Image          // what there is so far; nil: nothing
	cfg  layerstore.ContainerConfig // of that image, and what instructions have changed since
	args scope

	edit   layerstore.ConfigEditor // of cfg
	author string                  // of the image, too

	pending []layerstore.HistoryEntry // steps that changed no files since img
	step    int
	steps   int
}

// stage builds a stage, unless that is done already.
func (b *builder) stage(ctx context.Context, n int) (*stage, error) {
	if st := b.stages[n]; st != nil {
		return st, nil
	}
	parsed := &b.parsed[n]
	st := &stage{b: b, n: n, name: parsed.Name, args: make(scope), steps: len(parsed.Commands) + 1, step: 1}
	st.edit.Config = &st.cfg
	st.anew = b.opt.NoCache || slices.ContainsFunc(b.opt.Anew, func(name string) bool {
		i, ok := b.stageNamed(name, len(b.parsed))
		return ok && i == n
	})
	if st.name == "" {
		st.name = fmt.Sprintf("stage-%d", n)
	}
	if err := st.from(ctx, parsed); err != nil {
		return nil, b.located(err, parsed.Location)
	}
	onBuild := st.cfg.OnBuild
	st.cfg.OnBuild = nil
	for _, text := range onBuild {
		cmd, err := parseTrigger(text)
		if err == nil {
			err = st.do(ctx, cmd)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: ONBUILD %s: %w", parsed.BaseName, text, err)
		}
	}
	for _, cmd := range parsed.Commands {
		st.step++
		if err := st.do(ctx, cmd); err != nil {
			return nil, b.located(err, cmd.Location())
		}
	}
	if err := st.settle(ctx); err != nil {
		return nil, err
	}
	b.stages[n] = st
	return st, nil
}

// placedError is an error at a line of the Dockerfile.
type placedError struct {
	file string
	line int
	error
}

func (e *placedError) Error() string { return fmt.Sprintf("%s, line %d: %v", e.file, e.line, e.error) }

func (e *placedError) Unwrap() error { return e.error }

// located says where in the Dockerfile an error came up; one of another stage, which this one needs, knows that already.
func (b *builder) located(err error, at []parser.Range) error {
	if placed := new(placedError); len(at) == 0 || errors.As(err, &placed) {
		return err
	}
	return &placedError{b.opt.Name, at[0].Start.Line, err}
}

// parseTrigger reads an instruction that ONBUILD has kept.
func parseTrigger(text string) (instructions.Command, error) {
	res, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	if len(res.AST.Children) != 1 {
		return nil, errors.New("want one instruction")
	}
	dropRelabels(res.AST)
	return instructions.ParseCommand(res.AST.Children[0])
}

// from begins the stage with an image or another stage.
func (st *stage) from(ctx context.Context, parsed *instructions.Stage) error {
	b := st.b
	base, err := b.expand(parsed.BaseName)
	if err != nil {
		return err
	}
	if base == "" {
		return fmt.Errorf("FROM %s names nothing: give the argument in it a value with --build-arg", parsed.BaseName)
	}
	platform, err := b.expand(parsed.Platform)
	if err != nil {
		return err
	}
	if platform != "" && !isOurs(platform) {
		return fmt.Errorf("platform %s: this machine runs %s/%s only", platform, runtime.GOOS, runtime.GOARCH)
	}
	st.say("FROM " + base)
	isStage := false
	if base != "scratch" {
		img, args, err := b.image(ctx, base, st.n)
		if err != nil {
			return err
		}
		st.img, st.author = img, img.Config.Author
		isStage = args != nil
		maps.Copy(st.args, args)
		st.cfg = st.img.Config.Config.Clone()
	}
	if _, ok := shell.EnvsFromSlice(st.cfg.Env).Get("PATH"); !ok {
		st.cfg.Env = append(st.cfg.Env, "PATH="+defaultPath)
	}
	if isStage || len(b.opt.Env) == 0 {
		return nil
	}
	text, err := st.edit.Apply(&instructions.EnvCommand{Env: sortedPairs(b.opt.Env)}, b.escape, nil)
	if err == nil {
		st.note(text)
	}
	return err
}

// defaultPath is where programs are looked for in images that do not say so.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// env is what variables in instructions stand for: those of the image go before arguments.
func (st *stage) env() []string {
	var list []string
	for _, kv := range st.args.list() {
		list = environ.Set(list, kv)
	}
	for _, kv := range st.cfg.Env {
		list = environ.Set(list, kv)
	}
	return list
}

// expand replaces the variables of an instruction.
func (st *stage) expand(cmd instructions.Command, env shell.EnvGetter) error {
	if err := layerstore.Expand(cmd, st.b.escape, env); err != nil {
		return err
	}
	if c, ok := cmd.(instructions.SupportsSingleWordExpansionRaw); ok { // the content of files, in which quotes mean nothing
		lex := shell.NewLex('\\')
		lex.SkipProcessQuotes = true
		return c.ExpandRaw(func(word string) (string, error) {
			out, _, err := lex.ProcessWord(word, env)
			return out, err
		})
	}
	return nil
}

// do carries one instruction out.
func (st *stage) do(ctx context.Context, cmd instructions.Command) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	env := shell.EnvsFromSlice(st.env())
	if err := st.expand(cmd, env); err != nil {
		return err
	}
	switch c := cmd.(type) {
	case *instructions.RunCommand:
		return st.run(ctx, c)
	case *instructions.CopyCommand:
		return st.copy(ctx, c)
	case *instructions.AddCommand:
		return st.add(ctx, c)
	case *instructions.WorkdirCommand:
		return st.workdir(ctx, c)
	case *instructions.ArgCommand:
		st.configured("ARG " + st.declare(c))
		return nil
	case *instructions.MaintainerCommand:
		st.author = c.Maintainer
		st.configured("MAINTAINER " + c.Maintainer)
		return nil
	}
	text, err := st.edit.Apply(cmd, st.b.escape, env)
	if err != nil {
		return err
	}
	st.configured(text)
	return nil
}

// configured tells of a step that changed the configuration alone, and enters it.
func (st *stage) configured(text string) {
	st.say(text)
	st.note(text)
}

// declare enters build arguments and says what they are.
func (st *stage) declare(cmd *instructions.ArgCommand) string {
	var texts []string
	for _, a := range cmd.Args {
		st.b.declare(st.args, st.b.global, a)
		text := a.Key
		if value := st.args[a.Key]; value != nil {
			text += "=" + *value
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

func (st *stage) note(text string) {
	st.pending = append(st.pending, layerstore.HistoryEntry{CreatedBy: text})
}

// say tells which step is under way.
func (st *stage) say(text string) {
	st.b.say("[%s %d/%d] %s", st.name, st.step, st.steps, firstLine(text))
}

// firstLine shortens text to what fits a line.
func firstLine(text string) string {
	line, _, more := strings.Cut(text, "\n")
	if more {
		line += " ..."
	}
	return line
}

// key is the cache key of a step with what it depends on beside the image and configuration so far.
func (st *stage) key(depends ...any) string {
	below := ""
	if st.img != nil {
		below = st.img.ID
	}
	data, err := json.Marshal([]any{"mica.step.1", below, st.cfg, st.author, st.pending, st.b.opt.Created, depends})
	if err != nil {
		panic(err) // there is nothing in it that has no JSON
	}
	return hashOf(string(data))
}

// cached takes the result of a step from an earlier build, and tells whether there is one.
func (st *stage) cached(key string) (bool, error) {
	if st.anew {
		return false, nil
	}
	img, err := st.b.store.Built(key)
	if errors.Is(err, layerstore.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		st.advance(img)
	}
	return err == nil, err
}

func (st *stage) advance(img *layerstore.Image) { st.img, st.pending = img, nil }

// layer is one step that changes files.
type layer struct {
	text    string // for the history
	shown   string // for the user
	depends []any
	options func(context.Context) (run.CreateOptions, error) // of its container, but for the image
	work    func(context.Context, *run.Created) error
}

// layer makes a layer, or takes it from an earlier build.
func (st *stage) layer(ctx context.Context, l layer) (err error) {
	key := st.key(append(l.depends, l.text)...)
	if found, err := st.cached(key); err != nil {
		return err
	} else if found {
		st.say(l.shown + "  (cached)")
		return nil
	}
	st.say(l.shown)
	opt, err := l.options(ctx)
	if err != nil {
		return err
	}
	if st.img != nil {
		opt.Image = st.img.ID
	}
	c, err := st.b.e.Create(ctx, opt)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, st.b.e.Remove(context.WithoutCancel(ctx), c.Container, run.RemoveOptions{Force: true, Volumes: true}))
	}()
	if err := l.work(ctx, c); err != nil {
		return err
	}
	id, err := st.b.e.Commit(ctx, c.Container, control.Commit{Options: st.commitOptions(l.text, key)})
	if err != nil {
		return err
	}
	img, err := st.b.store.Resolve(id)
	if err != nil {
		return err
	}
	st.advance(img)
	return nil
}

func (st *stage) commitOptions(text, key string) layerstore.CommitOptions {
	return layerstore.CommitOptions{
		CreatedBy: text, Author: st.author, Config: &st.cfg, Steps: st.pending, Created: st.b.opt.Created, Step: key,
		OverHost: st.img != nil && st.img.OverHost,
	}
}

// settle makes an image of what has changed in the configuration since the last layer, or of nothing where there is none.
func (st *stage) settle(ctx context.Context) error {
	if len(st.pending) == 0 {
		if st.img != nil {
			return nil
		}
		st.note("FROM scratch") // which is all that there is, and an image too
	}
	key := st.key()
	if found, err := st.cached(key); found || err != nil {
		return err
	}
	opt := st.commitOptions(st.pending[len(st.pending)-1].CreatedBy, key)
	opt.Steps = opt.Steps[:len(opt.Steps)-1]
	none := func(context.Context, func(*cow.Change) error) error { return nil }
	img, err := st.b.store.Commit(ctx, st.img, none, opt)
	if err != nil {
		return err
	}
	st.advance(img)
	return nil
}
