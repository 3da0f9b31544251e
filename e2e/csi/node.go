package main

import (
	"context"
	"os"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nodeService mounts volumes: once for the node (stage), and from there into each pod (publish).
type nodeService struct {
	csi.UnimplementedNodeServer
	name    string
	volumes *volumes
	// One change at a time.
	changing sync.Mutex
}

func (n *nodeService) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.name}, nil
}

func (n *nodeService) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	answer := &csi.NodeGetCapabilitiesResponse{}
	for _, can := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: can}},
		})
	}
	return answer, nil
}

// found is the file of a volume that is there.
func (n *nodeService) found(text string) (string, error) {
	id, err := parseID(text)
	if err != nil {
		return "", err
	}
	if _, err := n.volumes.size(id); err != nil {
		return "", err
	}
	return n.volumes.file(id), nil
}

func (n *nodeService) NodeStageVolume(ctx context.Context, request *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	target := request.GetStagingTargetPath()
	if err := needed("staging_target_path", target); err != nil {
		return nil, err
	}
	if err := unsupported(request.GetVolumeCapability()); err != nil {
		return nil, err
	}
	file, err := n.found(request.GetVolumeId())
	if err != nil {
		return nil, err
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	mounted, err := isMountPoint(target)
	if err != nil || mounted {
		return &csi.NodeStageVolumeResponse{}, err
	}
	flags := request.GetVolumeCapability().GetMount().GetMountFlags()
	return &csi.NodeStageVolumeResponse{}, mountFile(ctx, file, target, flags)
}

func (n *nodeService) NodeUnstageVolume(_ context.Context, request *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	target := request.GetStagingTargetPath()
	if err := needed("staging_target_path", target); err != nil {
		return nil, err
	}
	if _, err := parseID(request.GetVolumeId()); err != nil {
		return nil, err
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	return &csi.NodeUnstageVolumeResponse{}, unmount(target)
}

func (n *nodeService) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	staged, target := request.GetStagingTargetPath(), request.GetTargetPath()
	for name, path := range map[string]string{"staging_target_path": staged, "target_path": target} {
		if err := needed(name, path); err != nil {
			return nil, err
		}
	}
	if err := unsupported(request.GetVolumeCapability()); err != nil {
		return nil, err
	}
	if _, err := n.found(request.GetVolumeId()); err != nil {
		return nil, err
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	if mounted, err := isMountPoint(staged); err != nil {
		return nil, err
	} else if !mounted {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %q is not staged at %s", request.GetVolumeId(), staged)
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, err
	}
	mounted, err := isMountPoint(target)
	if err != nil || mounted {
		return &csi.NodePublishVolumeResponse{}, err
	}
	return &csi.NodePublishVolumeResponse{}, bind(staged, target, request.GetReadonly())
}

func (n *nodeService) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	target := request.GetTargetPath()
	if err := needed("target_path", target); err != nil {
		return nil, err
	}
	if _, err := parseID(request.GetVolumeId()); err != nil {
		return nil, err
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	if err := unmount(target); err != nil {
		return nil, err
	}
	if err := os.Remove(target); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (n *nodeService) NodeExpandVolume(ctx context.Context, request *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if err := needed("volume_path", request.GetVolumePath()); err != nil {
		return nil, err
	}
	file, err := n.found(request.GetVolumeId())
	if err != nil {
		return nil, err
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	size, err := growMounted(ctx, file, request.GetVolumePath())
	if err != nil {
		return nil, err
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: size}, nil
}

func (n *nodeService) NodeGetVolumeStats(_ context.Context, request *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	path := request.GetVolumePath()
	if err := needed("volume_path", path); err != nil {
		return nil, err
	}
	if _, err := n.found(request.GetVolumeId()); err != nil {
		return nil, err
	}
	mounted, err := isMountPoint(path)
	if err != nil {
		return nil, err
	}
	if !mounted {
		// Otherwise this would be the usage of the machine's own disk.
		return nil, status.Errorf(codes.NotFound, "volume %q is not mounted at %s", request.GetVolumeId(), path)
	}
	usage, err := usageOf(path)
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: usage}, nil
}

func needed(name, value string) error {
	if value == "" {
		return status.Errorf(codes.InvalidArgument, "%s is missing", name)
	}
	return nil
}
