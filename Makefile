# Targets: build test test-mount lint fuzz bench demo install clean.

GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=
BIN     := bin/mica
LDFLAGS := -s -w $(if $(VERSION),-X mica/internal/version.number=$(VERSION))

# How long each fuzz target runs.
FUZZTIME ?= 30s

.PHONY: all build test test-mount check-format vet lint fuzz bench demo install clean prepare

all: build

# One static binary, its manual pages and completion.
build:
	@[ -n "$$(GO111MODULE=off $(GO) env GOTOOLCHAIN 2>/dev/null)" ] || \
		{ echo "build: Go 1.21 or later is needed, which fetches the version that mica takes by itself: see go.dev/dl, or let root run 'sh .ci/prepare go'" >&2; exit 1; }
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/mica
	@rm -rf bin/man bin/completion && mkdir -p bin/man bin/completion
	@$(GO) run -tags docs ./cmd/mica docs man bin/man
	@$(BIN) completion bash > bin/completion/mica
	@$(BIN) completion zsh > bin/completion/_mica
	@$(BIN) completion fish > bin/completion/mica.fish

# What tests need of the machine: installed when root, named otherwise.
prepare:
	@GO=$(GO) sh .ci/prepare test

test: prepare check-format vet lint
	@. ./.ci/environment && $(GO) test -timeout 12m ./...

# The tests that mount: filesystem, sandbox, containers, command line.
test-mount: prepare
	@. ./.ci/environment && $(GO) test -count=1 -timeout 12m ./fs/... ./run/... ./cmd/...

check-format:
	@bad=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$bad" ]; then echo "gofmt would change:"; echo "$$bad"; exit 1; fi

# The other architecture must compile, too.
vet:
	$(GO) vet ./...
	GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...

# The version of staticcheck is the one in go.mod.
lint:
	$(GO) tool staticcheck ./...

# Every fuzz target of every package, one after the other.
fuzz:
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "== $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

bench:
	@GO=$(GO) sh .ci/prepare bench
	@$(MAKE) -s build
	$(BIN) bench $(BENCHFLAGS)

# The walkthrough of the README, as a plain user.
demo:
	@GO=$(GO) sh demo/demo.sh

# It only copies what the plain user has built, so that root needs no Go.
install:
	@[ -x $(BIN) ] && [ -d bin/man ] || { echo "install: build it first, as yourself: make build" >&2; exit 1; }
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/mica
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 bin/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -D -m 644 bin/completion/mica $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mica
	install -D -m 644 bin/completion/_mica $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_mica
	install -D -m 644 bin/completion/mica.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/mica.fish

clean:
	rm -rf bin
