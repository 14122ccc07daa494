// Command coredns is CoreDNS with only the plugins that the local cluster's Corefile names.
package main

import (
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
)

func init() {
	// The chain is in this order: errors sees every answer, template gets only what kubernetes does not answer.
	dnsserver.Directives = []string{"reload", "ready", "health", "errors", "cache", "kubernetes", "template"}
}

func main() { coremain.Run() }
