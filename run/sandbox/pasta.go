package sandbox

import "errors"

func (s *Sandbox) connectPasta() error { return errors.New("connect pasta") }
