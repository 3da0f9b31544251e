// Command csi-driver is the storage of the local platform's node: volumes that grow while they are
// mounted and tell how full they are, which folders of the machine as volumes do not.
//
// A volume is a sparse file with an XFS file system (ext4 does not grow on every machine while it
// is mounted). One process is all of the driver: identity, controller and node service on one
// socket, and on another the kubelet's plugin registration. It runs in the kubelet's mount
// namespace, so that pods see what it mounts.
package main

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func main() {
	name := flag.String("name", "", "the driver's name, that of its CSIDriver object")
	node := flag.String("node", "", "the node's name")
	volumes := flag.String("volumes", "", "the folder of the volumes' files")
	endpoint := flag.String("endpoint", "", "the socket on which the driver is to answer")
	registry := flag.String("registry", "", "the socket on which the kubelet is to find the driver")
	flag.Parse()
	if err := run(*name, *node, *volumes, *endpoint, *registry); err != nil {
		log.Fatal(err)
	}
}

func run(name, node, folder, endpoint, registry string) error {
	volumes, err := openVolumes(folder)
	if err != nil {
		return err
	}
	driver := grpc.NewServer(grpc.UnaryInterceptor(logFailures))
	csi.RegisterIdentityServer(driver, &identity{name: name})
	csi.RegisterControllerServer(driver, &controller{volumes: volumes})
	csi.RegisterNodeServer(driver, &nodeService{name: node, volumes: volumes})

	failed := make(chan error, 2)
	if err := serve(driver, endpoint, failed); err != nil {
		return err
	}
	// Only now: the kubelet asks the driver as soon as it finds this socket.
	plugin := grpc.NewServer()
	registration.RegisterRegistrationServer(plugin, &registrar{name: name, endpoint: endpoint, refused: failed})
	if err := serve(plugin, registry, failed); err != nil {
		return err
	}

	asked, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	select {
	case err = <-failed:
	case <-asked.Done():
	}
	plugin.Stop()
	driver.GracefulStop()
	return err
}

// serve answers on a socket, in the place of an earlier process that was killed.
func serve(server *grpc.Server, socket string, failed chan<- error) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	go func() {
		if err := server.Serve(listener); err != nil {
			failed <- err
		}
	}()
	return nil
}

func logFailures(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	answer, err := handle(ctx, request)
	if err != nil {
		log.Printf("%s: %v", info.FullMethod, err)
	}
	return answer, err
}
