// Fetches an artifact as Flux does, with its own client, and leaves what is in
// it in a directory.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/fluxcd/pkg/oci"
	"github.com/google/go-containerregistry/pkg/crane"
)

func main() {
	log.SetFlags(0)
	user := flag.String("username", "", "account of the registry; its password is in PASSWORD")
	plain := flag.Bool("plain-http", false, "the registry has no TLS")
	output := flag.String("output", ".", "directory that gets the files")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: flux-pull [FLAGS] oci://HOST/REPOSITORY REVISION")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := pull(flag.Arg(0), flag.Arg(1), *user, *plain, *output); err != nil {
		log.Fatal(err)
	}
}

func pull(repo, revision, user string, plain bool, output string) error {
	options := oci.DefaultOptions()
	if user != "" {
		login, err := oci.GetAuthFromCredentials(user + ":" + os.Getenv("PASSWORD"))
		if err != nil {
			return err
		}
		options = append(options, crane.WithAuth(login))
	}
	if plain {
		options = append(options, crane.Insecure)
	}
	repository, err := oci.ParseRepositoryURL(repo)
	if err != nil {
		return err
	}
	between := ":"
	if strings.HasPrefix(revision, "sha256:") {
		between = "@"
	}
	found, err := oci.NewClient(options).Pull(context.Background(), repository+between+revision, output)
	if err != nil {
		return err
	}
	fmt.Println(found.Digest)
	return nil
}
