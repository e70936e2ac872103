package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mica/internal/registry"
)

func newLoginCommand() *cobra.Command {
	var flags registryFlags
	var l loginInput
	c := &cobra.Command{
		Use:   "login [flags] [SERVER]",
		Short: "Log in to a registry",
		Long: `Ask a registry whether it knows you, and keep your name and password for pull and push. They are kept as Docker keeps them: in
~/.docker/config.json, or by the helper that this file names. What "podman login" kept before is replaced where it is. Without SERVER it
is Docker's hub.`,
		Example: lines("mica login", "mica login -u me host.example", "pass host.example | mica login -u me --password-stdin host.example"),
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
	}
	fl := c.Flags()
	fl.StringVarP(&l.user, "username", "u", "", "user name")
	fl.StringVarP(&l.password, "password", "p", "", "password; others can see it, better let mica ask for it")
	fl.BoolVar(&l.stdin, "password-stdin", false, "read the password from standard input")
	flags.registerLogin(fl)
	c.RunE = func(c *cobra.Command, args []string) error {
		return interruptible(c.Context(), func(ctx context.Context) error {
			if err := l.complete(ctx, c.Flags().Changed("password")); err != nil {
				return err
			}
			if err := registry.Login(ctx, server(args), l.user, l.password, flags.options()); err != nil {
				return fmt.Errorf("log in: %w", err)
			}
			fmt.Fprintln(stdout, "Login Succeeded")
			return nil
		})
	}
	return c
}

func newLogoutCommand() *cobra.Command {
	var authFile string
	c := &cobra.Command{
		Use:     "logout [flags] [SERVER]",
		Short:   "Forget the credentials for a registry",
		Long:    `Forget the credentials for a registry, also those that "podman login" and "docker login" kept. Without SERVER it is Docker's hub.`,
		Example: lines("mica logout", "mica logout host.example"),
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.Flags().StringVar(&authFile, "authfile", "", "file of credentials (default $REGISTRY_AUTH_FILE, or those of Podman and Docker)")
	c.RunE = func(c *cobra.Command, args []string) error {
		return interruptible(c.Context(), func(ctx context.Context) error {
			name := registry.ServerName(server(args))
			known, err := registry.Logout(ctx, name, registry.Options{AuthFile: authFile})
			switch {
			case err != nil:
				return fmt.Errorf("log out: %w", err)
			case known:
				fmt.Fprintln(stdout, "Removing login credentials for", name)
			default:
				fmt.Fprintln(stdout, "Not logged in to", name)
			}
			return nil
		})
	}
	return c
}

func server(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// loginInput is who logs in.
type loginInput struct {
	user, password string
	stdin          bool
}

// complete asks for what the command line does not say.
func (l *loginInput) complete(ctx context.Context, given bool) error {
	terminal := term.IsTerminal(0)
	switch {
	case given && l.stdin:
		return errors.New("--password and --password-stdin exclude each other")
	case l.stdin && l.user == "":
		return errors.New("--password-stdin needs --username")
	case l.stdin && terminal:
		return errors.New("standard input is a terminal, which would show the password: pipe it in, or leave --password-stdin out")
	case given:
		fmt.Fprintln(os.Stderr, "WARNING: others can see a password on the command line. Use --password-stdin.")
	}
	if l.user == "" || !given && !l.stdin {
		if !terminal {
			return errors.New("there is no terminal to ask for the user name and password: use --username and --password-stdin")
		}
		return l.ask(ctx, given)
	}
	if l.stdin {
		return l.read(os.Stdin)
	}
	return l.check()
}

// maxPassword bounds what is read as a password; tokens may be long.
const maxPassword = 64 << 10

// read takes all of a stream as the password, but for the end of its line.
func (l *loginInput) read(r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, maxPassword))
	if err != nil {
		return fmt.Errorf("read the password: %w", err)
	}
	l.password = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	return l.check()
}

func (l *loginInput) check() error {
	if l.user == "" || l.password == "" {
		return errors.New("the user name or password is empty")
	}
	return nil
}

// ask asks at the terminal, and gives it its echo back if that is interrupted.
func (l *loginInput) ask(ctx context.Context, given bool) error {
	state, err := term.GetState(0)
	if err != nil {
		return fmt.Errorf("read the terminal: %w", err)
	}
	asked := make(chan error, 1)
	go func() { asked <- l.dialogue(given) }()
	select {
	case err := <-asked:
		return err
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr)
		return errors.Join(ctx.Err(), term.Restore(0, state))
	}
}

func (l *loginInput) dialogue(given bool) error {
	if l.user == "" {
		fmt.Fprint(os.Stderr, "Username: ")
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			return fmt.Errorf("read the user name: %w", err)
		}
		l.user = strings.TrimSpace(line)
	}
	if !given {
		fmt.Fprint(os.Stderr, "Password: ")
		data, err := term.ReadPassword(0)
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		l.password = string(data)
	}
	return l.check()
}
