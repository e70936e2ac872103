// Package build makes images as Dockerfiles describe them.
//
// # Steps
//
// Instructions that only change how containers run (ENV, CMD, LABEL ...) change
// the configuration of the stage; those that change files make a layer each. For a
// layer a container is made over the image so far that goes with the build, work is done in it, and
// it is committed:
//
//	RUN         the command runs in it
//	COPY, ADD   files are unpacked into it; it never runs
//	WORKDIR     the same, with a directory, where the image lacks it
//
// What only changed the configuration is committed together with the next layer, or at the
// end of the stage.
//
// # Cache
//
// Every committed image carries a key: a hash of the image below, of the
// configuration, and of all that the step depends on (its text, variables, the content of files). A step
// whose key an image of the store carries is not done again. The times of files are no part of keys.
package build
