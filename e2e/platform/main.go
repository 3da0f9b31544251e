// Command platform is a whole Kubernetes 1.36 in one binary, for tests on a machine that has
// no container engine. The first argument names the component to run, the rest are that
// component's own flags, exactly as upstream documents them:
//
//	platform kube-apiserver --etcd-servers=…
//	platform kubectl get pods
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	// Each upstream main registers these itself: JSON logs, and the metrics that
	// describe client-go and the build.
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// component runs with os.Args already shifted, so that os.Args[0] is the component's name.
type component func() int

var components = map[string]component{
	"etcd": func() int {
		etcdmain.Main(os.Args)
		return 0
	},
	"kube-apiserver":          cobraComponent(apiserver.NewAPIServerCommand),
	"kube-controller-manager": cobraComponent(controllermanager.NewControllerManagerCommand),
	"kube-scheduler":          cobraComponent(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 cobraComponent(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kube-proxy":              cobraComponent(proxy.NewProxyCommand),
	"kubectl": func() int {
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			// Pretty-prints the error and exits with kubectl's own codes.
			util.CheckErr(err)
		}
		return 0
	},
}

func cobraComponent(command func() *cobra.Command) component {
	return func() int { return cli.Run(command()) }
}

func main() {
	names := make([]string, 0, len(components))
	for name := range components {
		names = append(names, name)
	}
	sort.Strings(names)
	usage := fmt.Sprintf("usage: platform {%s} [flags]", strings.Join(names, "|"))

	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	run, known := components[os.Args[1]]
	if !known {
		fmt.Fprintf(os.Stderr, "platform: no component %q\n%s\n", os.Args[1], usage)
		os.Exit(2)
	}
	os.Args = os.Args[1:]
	os.Exit(run())
}
