// Fetches an artifact as Argo CD's repo server does, with its own client, and
// leaves what is in it in a directory.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/argoproj/argo-cd/v3/util/io"
	"github.com/argoproj/argo-cd/v3/util/oci"
)

// What the repo server takes unless --oci-layer-media-types says otherwise
// (cmd/argocd-repo-server/commands/argocd_repo_server.go, v3.3.0).
var layers = []string{
	"application/vnd.oci.image.layer.v1.tar",
	"application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.cncf.helm.chart.content.v1.tar+gzip",
}

// The repo server counts with these; the client calls them unasked.
var quiet = func() oci.EventHandlers {
	one := func(string) func() { return func() {} }
	two := func(string) func(string) { return func(string) {} }
	return oci.EventHandlers{
		OnExtract: one, OnResolveRevision: one, OnDigestMetadata: one, OnTestRepo: one, OnGetTags: one,
		OnExtractFail: two, OnResolveRevisionFail: two, OnDigestMetadataFail: two, OnTestRepoFail: one, OnGetTagsFail: one,
	}
}()

func main() {
	log.SetFlags(0)
	user := flag.String("username", "", "account of the registry; its password is in PASSWORD")
	plain := flag.Bool("plain-http", false, "the registry has no TLS")
	ca := flag.String("ca", "", "file of the certificate authority that is trusted")
	output := flag.String("output", ".", "directory that gets the files")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: argocd-pull [FLAGS] oci://HOST/REPOSITORY REVISION")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	creds := oci.Creds{Username: *user, Password: os.Getenv("PASSWORD"), CAPath: *ca, InsecureHTTPOnly: *plain}
	if err := pull(flag.Arg(0), flag.Arg(1), creds, *output); err != nil {
		log.Fatal(err)
	}
}

func pull(repo, revision string, creds oci.Creds, output string) error {
	work, err := os.MkdirTemp("", "argocd-pull-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	client, err := oci.NewClient(repo, creds, "", "", layers,
		oci.WithEventHandlers(quiet),
		oci.WithImagePaths(io.NewRandomizedTempPaths(work)),
		// The repo server's default, --oci-manifest-max-extracted-size.
		oci.WithManifestMaxExtractedSize(1<<30))
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := client.TestRepo(ctx); err != nil {
		return fmt.Errorf("test: %w", err)
	}
	digest, err := client.ResolveRevision(ctx, revision, true)
	if err != nil {
		return fmt.Errorf("resolve: %w", err)
	}
	if strings.HasPrefix(revision, "sha256:") && digest != revision {
		return fmt.Errorf("resolve: %s became %s", revision, digest)
	}
	// It fills the cache: in the repo server as here, Extract comes first.
	from, closer, err := client.Extract(ctx, digest)
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	defer closer.Close()
	manifest, err := client.DigestMetadata(ctx, digest)
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	fmt.Printf("%s %s %d layer\n", digest, manifest.ArtifactType, len(manifest.Layers))
	if err := os.CopyFS(output, os.DirFS(from)); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(from, path)
		fmt.Println(name)
		return err
	})
}
