package layerstore

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestApplyChanges is the table of instructions, each over the same configuration.
func TestApplyChanges(t *testing.T) {
	cases := []struct {
		changes []string
		want    string // the configuration as JSON, or with "error: " a part of the error
	}{
		{[]string{`CMD node app.js`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["/bin/sh","-c","node app.js"],"WorkingDir":"/w"}`},
		{[]string{`cmd ["node", "a b"]`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["node","a b"],"WorkingDir":"/w"}`},
		{[]string{`CMD [node]`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["/bin/sh","-c","[node]"],"WorkingDir":"/w"}`},
		{[]string{`CMD ["a", 1]`}, `error: strings only`},
		{[]string{`CMD`}, `error: CMD needs an argument`},
		{[]string{`ENTRYPOINT ["e"]`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["e"],"WorkingDir":"/w"}`},
		{[]string{`CMD ["c"]`, `ENTRYPOINT ["e"]`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["e"],"Cmd":["c"],"WorkingDir":"/w"}`},
		{[]string{`ENTRYPOINT []`}, `{"Env":["A=1","P=/bin"],"WorkingDir":"/w"}`},
		{[]string{`ENTRYPOINT run $A`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["/bin/sh","-c","run $A"],"WorkingDir":"/w"}`},
		{[]string{`ENV B=2 C="x y" D=x\ y E='$A' F="$A"`}, `{"Env":["A=1","P=/bin","B=2","C=x y","D=x y","E=$A","F=1"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w"}`},
		{[]string{`ENV A=$A:2 B=$A`}, `{"Env":["A=1:2","P=/bin","B=1"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w"}`},
		{[]string{`ENV B two words  here`}, `{"Env":["A=1","P=/bin","B=two words  here"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w"}`},
		{[]string{`ENV P=/x:${P} Q=${NONE:-d} R=${A:+s} S=${A-d} T=\$A`}, `{"Env":["A=1","P=/x:/bin","Q=d","R=s","S=1","T=$A"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w"}`},
		{[]string{`ENV B=`}, `{"Env":["A=1","P=/bin","B="],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w"}`},
		{[]string{`ENV B`}, `error: must have two arguments`},
		{[]string{`ENV B=1 C`}, `error: can't find = in "C"`},
		{[]string{`ENV =1`}, `error: can not be blank`},
		{[]string{`ENV B="x`}, `error: matching double-quote`},
		{[]string{`ENV B='x`}, `error: matching single-quote`},
		{[]string{`ENV B=${A`}, `error: unsupported modifier`},
		{[]string{`ENV B=${A:-x`}, `error: missing '}'`},
		{[]string{`ENV B=${A:*x}`}, `error: unsupported modifier`},
		{[]string{`ENV B=${N:?not there}`}, `error: not there`},
		{[]string{"ENV B=1 \\\n  C=2"}, `{"Env":["A=1","P=/bin","B=1","C=2"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w"}`},
		{[]string{"CMD a\nCMD b"}, `error: one line`},
		{[]string{`LABEL a=b "c d"="e f" v=$A`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w","Labels":{"a":"b","c d":"e f","v":"1"}}`},
		{[]string{`EXPOSE 80 443/TCP 5000-5001/udp $A`}, `{"ExposedPorts":{"1/tcp":{},"443/tcp":{},"5000/udp":{},"5001/udp":{},"80/tcp":{}},"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w"}`},
		{[]string{`EXPOSE 80/icmp`}, `error: port "80/icmp": want PORT[-PORT][/tcp|udp|sctp]`},
		{[]string{`EXPOSE 70000`}, `error: port "70000": want PORT[-PORT]`},
		{[]string{`EXPOSE 9-8`}, `error: port "9-8": want PORT`},
		{[]string{`VOLUME /a /b`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"Volumes":{"/a":{},"/b":{}},"WorkingDir":"/w"}`},
		{[]string{`VOLUME ["/a b"]`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"Volumes":{"/a b":{}},"WorkingDir":"/w"}`},
		{[]string{`VOLUME [""]`}, `error: empty string`},
		{[]string{`WORKDIR sub/../x`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w/x"}`},
		{[]string{`WORKDIR /a`, `WORKDIR b`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/a/b"}`},
		{[]string{`USER app:app`}, `{"User":"app:app","Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w"}`},
		{[]string{`STOPSIGNAL SIGQUIT`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w","StopSignal":"SIGQUIT"}`},
		{[]string{`STOPSIGNAL rtmin+3`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w","StopSignal":"rtmin+3"}`},
		{[]string{`STOPSIGNAL 99`}, `error: signal 99 does not exist`},
		{[]string{`STOPSIGNAL SIGNOT`}, `error: signal "SIGNOT" does not exist`},
		{[]string{`STOPSIGNAL SIGRTMIN-5`}, `error: signal "SIGRTMIN-5" does not exist`},
		{[]string{`ONBUILD RUN make`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"WorkingDir":"/w","OnBuild":["RUN make"]}`},
		{[]string{`ONBUILD ONBUILD RUN x`}, `error: Chaining ONBUILD via`},
		{[]string{`ONBUILD FROM x`}, `error: FROM isn't allowed`},
		{[]string{`HEALTHCHECK NONE`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"Healthcheck":{"Test":["NONE"]},"WorkingDir":"/w"}`},
		{[]string{`HEALTHCHECK --interval=5s --retries=3 --timeout=1s CMD curl x`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"Healthcheck":{"Test":["CMD-SHELL","curl x"],"Interval":5000000000,"Timeout":1000000000,"Retries":3},"WorkingDir":"/w"}`},
		{[]string{`HEALTHCHECK CMD ["a"]`}, `{"Env":["A=1","P=/bin"],"Entrypoint":["old"],"Cmd":["oldc"],"Healthcheck":{"Test":["CMD","a"]},"WorkingDir":"/w"}`},
		{[]string{`HEALTHCHECK CMD`}, `error: Missing command`},
		{[]string{`HEALTHCHECK --interval=1us CMD x`}, `error: cannot be less than 1ms`},
		{[]string{`HEALTHCHECK --x=1 CMD x`}, `error: unknown flag`},
		{[]string{`HEALTHCHECK x`}, `error: Unknown type`},
		{[]string{`RUN x`}, `error: RUN is no instruction`},
		{[]string{` `}, `error: is empty`},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.changes, ";"), func(t *testing.T) {
			cfg := ContainerConfig{
				Env: []string{"A=1", "P=/bin"}, Entrypoint: []string{"old"}, Cmd: []string{"oldc"}, WorkingDir: "/w",
			}
			err := ApplyChanges(&cfg, c.changes)
			if part, ok := strings.CutPrefix(c.want, "error: "); ok {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want %q", err, part)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(cfg)
			if err != nil || string(got) != c.want {
				t.Errorf("\n got %s\nwant %s\n%v", got, c.want, err)
			}
		})
	}
}

// TestShell: the image's own shell runs commands in shell form.
func TestShell(t *testing.T) {
	cfg := ContainerConfig{Shell: []string{"/bin/bash", "-ec"}}
	if err := ApplyChanges(&cfg, []string{"CMD x"}); err != nil || strings.Join(cfg.Cmd, "|") != "/bin/bash|-ec|x" {
		t.Errorf("%q, %v", cfg.Cmd, err)
	}
}

// FuzzApplyChanges: no text may do worse than give an error.
func FuzzApplyChanges(f *testing.F) {
	for _, s := range []string{`ENV A="$B" C=${D:-"e"}`, `CMD ["a"]`, `HEALTHCHECK --interval=1s CMD x`, `EXPOSE 1-3/udp`, "LABEL \\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, change string) {
		var cfg ContainerConfig
		_ = ApplyChanges(&cfg, []string{change})
	})
}
