package registry

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mica/internal/registrytest"
)

func is(b bool) *bool { return &b }

// TestTLS trusts whom certs.d, registries.conf or the user say, and nobody else.
func TestTLS(t *testing.T) {
	home := atHome(t)
	reg := registrytest.Unstarted(t)
	reg.StartTLS()
	reg.AddManifest("app", "latest", ocispec.MediaTypeImageManifest, []byte("{}"))
	name := reg.Host() + "/app"
	_, err := get(t, name, Options{})
	if err == nil || !strings.Contains(err.Error(), "cannot be trusted") || !strings.Contains(err.Error(), "--tls-verify=false") || !strings.Contains(err.Error(), "certs.d/"+reg.Host()) {
		t.Errorf("unknown certificate: %v", err)
	}
	if _, err := get(t, name, Options{TLSVerify: is(false)}); err != nil {
		t.Errorf("with --tls-verify=false: %v", err)
	}
	conf := filepath.Join(home, ".config/containers/registries.conf")
	write(t, conf, "[[registry]]\nlocation = \""+reg.Host()+"\"\ninsecure = true\n")
	if _, err := get(t, name, Options{}); err != nil {
		t.Errorf("with insecure = true: %v", err)
	}
	if _, err := get(t, name, Options{TLSVerify: is(true)}); err == nil {
		t.Error("--tls-verify does not go before insecure = true")
	}
	write(t, conf, "")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Certificate().Raw})
	write(t, filepath.Join(home, ".config/containers/certs.d", reg.Host(), "ca.crt"), string(ca))
	if _, err := get(t, name, Options{TLSVerify: is(true)}); err != nil {
		t.Errorf("with its certificate: %v", err)
	}
	write(t, filepath.Join(home, ".config/containers/certs.d", reg.Host(), "ca.crt"), "nothing")
	if _, err := get(t, name, Options{}); err == nil || !strings.Contains(err.Error(), "ca.crt holds no certificate") {
		t.Errorf("with a broken certificate: %v", err)
	}
}

// TestClientCertificate shows the registry who asks by a certificate.
func TestClientCertificate(t *testing.T) {
	home := atHome(t)
	reg := registrytest.Unstarted(t)
	reg.StartTLS()
	reg.AddManifest("app", "latest", ocispec.MediaTypeImageManifest, []byte("{}"))
	dir := filepath.Join(home, ".config/containers/certs.d", reg.Host())
	key, err := x509.MarshalPKCS8PrivateKey(reg.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Certificate().Raw}))
	write(t, filepath.Join(dir, "ca.crt"), cert)
	write(t, filepath.Join(dir, "client.cert"), cert)
	if _, err := get(t, reg.Host()+"/app", Options{}); err == nil || !strings.Contains(err.Error(), "client.key") {
		t.Errorf("without its key: %v", err)
	}
	write(t, filepath.Join(dir, "client.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	cfg, err := tlsConfig(reg.Host(), false)
	if err != nil || len(cfg.Certificates) != 1 {
		t.Errorf("configuration %+v, %v", cfg, err)
	}
	if _, err := get(t, reg.Host()+"/app", Options{}); err != nil {
		t.Error(err)
	}
}

// TestWantsClientCertificate says what a registry wants that asks for a certificate, instead of speaking HTTP with it.
func TestWantsClientCertificate(t *testing.T) {
	atHome(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		reg := registrytest.Unstarted(t)
		reg.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: version}
		reg.Config.ErrorLog = log.New(io.Discard, "", 0)
		reg.StartTLS()
		want := "client.cert and client.key into ~/.config/containers/certs.d/" + reg.Host()
		if _, err := get(t, reg.Host()+"/app", Options{TLSVerify: is(false)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", tls.VersionName(version), err, want)
		}
	}
}

// TestPlainHTTP is for this machine, and for those who ask for it.
func TestPlainHTTP(t *testing.T) {
	atHome(t)
	reg := serving(t, "{}")
	if _, err := get(t, reg.Host()+"/app", Options{}); err != nil {
		t.Errorf("on the loopback: %v", err)
	}
	_, err := get(t, reg.Host()+"/app", Options{TLSVerify: is(true)})
	if err == nil || !strings.Contains(err.Error(), "speaks HTTP only") {
		t.Errorf("with --tls-verify: %v", err)
	}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1": true, "127.1.2.3:5000": true, "[::1]": true, "[::1]:5000": true,
		"host.example": false, "localhost.example:5000": false, "128.0.0.1": false, "[fe80::1]:5000": false, "0.0.0.0:5000": false,
	} {
		if isLoopback(host) != want {
			t.Errorf("%s: loopback %v", host, !want)
		}
	}
}
