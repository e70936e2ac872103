// Package layerstore keeps container images on disk, addressed by content.
//
// # On disk
//
// The store's root is an OCI image layout, and beside it what only mica reads:
//
//	oci-layout, index.json   the layout; a name is the annotation
//	                         org.opencontainers.image.ref.name = NAME:TAG
//	blobs/sha256/HEX         manifests, configurations, layer archives
//	layers/HEX/              a layer's tree in stored form (package ondisk), by diffID;
//	                         by chainID where it took files from the layers below
//	layers/HEX.json          what unpacking found out: the size of its files
//	containers/              the containers; other packages' business
//	tmp/ID/                  one directory for each operation under way
//	lock                     flock(2): shared to look things up, exclusive to change
//
// # Order of writes
//
// An operation stages all it makes in tmp/ID without the store's lock, syncs
// it, then takes the exclusive lock and renames: blobs first, then layers, then
// index.json, which is the commit. A crash leaves the old or the new index
// and perhaps things that nothing refers to; the tmp directory of a dead
// process is what tells the next [Open] to collect them.
package layerstore
