package main

import (
	"os"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func mounted(kind string) *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{
		Mount: &csi.VolumeCapability_MountVolume{FsType: kind},
	}}
}

func TestWhatTheDriverCannotDoIsRefused(t *testing.T) {
	service := &controller{volumes: stored(t)}
	block := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Block{}}
	for _, asked := range [][]*csi.VolumeCapability{nil, {block}, {mounted("ext4")}, {mounted("xfs"), block}} {
		_, err := service.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "one", VolumeCapabilities: asked})
		expect(t, err, codes.InvalidArgument)
	}
	for _, kind := range []string{"", "xfs"} {
		_, err := service.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
			Name: "one", VolumeCapabilities: []*csi.VolumeCapability{mounted(kind)},
		})
		expect(t, err, codes.OK)
	}
}

func TestGrowingIsNotDoneBeforeTheNodeHasGrownTheFileSystem(t *testing.T) {
	service := &controller{volumes: stored(t)}
	if _, err := service.volumes.create(t.Context(), "one", atLeast(0)); err != nil {
		t.Fatal(err)
	}
	answer, err := service.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{
		VolumeId: "one", CapacityRange: atLeast(400 * mib),
	})
	if err != nil || !answer.NodeExpansionRequired || answer.CapacityBytes != 400*mib {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestTheUsageOfAVolumeThatIsNotMountedIsNotThatOfTheMachine(t *testing.T) {
	service := &nodeService{volumes: stored(t)}
	if _, err := service.volumes.create(t.Context(), "one", atLeast(0)); err != nil {
		t.Fatal(err)
	}
	_, err := service.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{
		VolumeId: "one", VolumePath: t.TempDir(),
	})
	expect(t, err, codes.NotFound)
}

func TestAVolumeIsPublishedFromWhereItIsStagedOnly(t *testing.T) {
	service := &nodeService{volumes: stored(t)}
	if _, err := service.volumes.create(t.Context(), "one", atLeast(0)); err != nil {
		t.Fatal(err)
	}
	target := t.TempDir() + "/target"
	_, err := service.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: "one", StagingTargetPath: t.TempDir(), TargetPath: target, VolumeCapability: mounted(""),
	})
	expect(t, err, codes.FailedPrecondition)
	if _, err := os.Stat(target); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", target, err)
	}
}

func TestTheDriverEndsWhenTheKubeletRefusesIt(t *testing.T) {
	refused := make(chan error, 1)
	service := &registrar{refused: refused}
	for _, status := range []*registration.RegistrationStatus{
		{PluginRegistered: true},
		{PluginRegistered: false, Error: "no such version"},
	} {
		if _, err := service.NotifyRegistrationStatus(t.Context(), status); err != nil {
			t.Fatal(err)
		}
		if told := len(refused) > 0; told == status.PluginRegistered {
			t.Errorf("%v: ends: %t", status, told)
		}
	}
}

func TestAMountIsFoundByItsWholePath(t *testing.T) {
	table := `36 35 98:0 / /a/b rw,noatime shared:1 - xfs /dev/loop0 rw
37 35 98:0 / /with\040space rw - xfs /dev/loop1 rw
`
	for path, is := range map[string]bool{"/a/b": true, "/a": false, "/a/b/c": false, "/with space": true} {
		if mentions(table, path) != is {
			t.Errorf("%s: %t", path, !is)
		}
	}
}
