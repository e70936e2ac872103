package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tlsConfig reads the certificates for a host from the first directory that has
// any: authorities from *.crt, and this machine's own from *.cert with *.key.
func tlsConfig(host string, insecure bool) (*tls.Config, error) {
	cfg := &tls.Config{InsecureSkipVerify: insecure}
	dirs := []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
	if dir := configDir(); dir != "" {
		dirs = append([]string{filepath.Join(dir, "certs.d")}, dirs...)
	}
	for _, dir := range dirs {
		dir = filepath.Join(dir, host)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		for _, e := range entries {
			if err := addCertificate(cfg, filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("read certificates: %w", err)
			}
		}
		return cfg, nil
	}
	return cfg, nil
}

func addCertificate(cfg *tls.Config, path string) error {
	switch filepath.Ext(path) {
	case ".crt":
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if cfg.RootCAs == nil {
			if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
				cfg.RootCAs = x509.NewCertPool()
			}
		}
		if !cfg.RootCAs.AppendCertsFromPEM(data) {
			return fmt.Errorf("%s holds no certificate in PEM form", path)
		}
	case ".cert":
		pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
		if err != nil {
			return err
		}
		cfg.Certificates = append(cfg.Certificates, pair)
	}
	return nil
}
