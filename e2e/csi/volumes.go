package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const mib = 1 << 20

// smallest is the size below which mkfs.xfs makes no file system, in bytes.
const smallest = 300 * mib

// volumeID names a volume and its file. Made by parseID only, so that it is no path.
type volumeID string

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][-_.A-Za-z0-9]{0,127}$`)

func parseID(text string) (volumeID, error) {
	if !idPattern.MatchString(text) {
		return "", status.Errorf(codes.InvalidArgument,
			"volume %q: needed are at most 128 letters, digits, dots, hyphens and underscores, a letter or digit first", text)
	}
	return volumeID(text), nil
}

// sizeFor is the size in bytes of a volume that is asked for: the smallest that will do.
func sizeFor(asked *csi.CapacityRange) (int64, error) {
	required, limit := asked.GetRequiredBytes(), asked.GetLimitBytes()
	if required < 0 || limit < 0 || (limit > 0 && limit < required) {
		return 0, status.Errorf(codes.InvalidArgument, "at least %d and at most %d bytes: no such size", required, limit)
	}
	size := (max(required, smallest) + mib - 1) / mib * mib
	if limit > 0 && size > limit {
		return 0, status.Errorf(codes.OutOfRange, "at most %d bytes: the smallest volume that will do has %d", limit, size)
	}
	return size, nil
}

// volumes is the folder of the volumes' files.
type volumes struct {
	folder string
	// One change at a time.
	changing sync.Mutex
}

func openVolumes(folder string) (*volumes, error) {
	absolute, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	return &volumes{folder: absolute}, os.MkdirAll(absolute, 0o700)
}

func (v *volumes) file(id volumeID) string {
	return filepath.Join(v.folder, string(id)+".xfs")
}

// size in bytes; the error of a volume that is not there has the code NotFound.
func (v *volumes) size(id volumeID) (int64, error) {
	file, err := os.Stat(v.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, status.Errorf(codes.NotFound, "no volume %q", id)
	}
	if err != nil {
		return 0, err
	}
	return file.Size(), nil
}

// create makes a volume with an empty file system, unless it is there. Returns its size.
func (v *volumes) create(ctx context.Context, id volumeID, asked *csi.CapacityRange) (int64, error) {
	wanted, err := sizeFor(asked)
	if err != nil {
		return 0, err
	}
	v.changing.Lock()
	defer v.changing.Unlock()
	size, err := v.size(id)
	if err == nil {
		if size < wanted || (asked.GetLimitBytes() > 0 && size > asked.GetLimitBytes()) {
			return 0, status.Errorf(codes.AlreadyExists, "volume %q has %d bytes, not the %d that are asked for", id, size, wanted)
		}
		return size, nil
	}
	if status.Code(err) != codes.NotFound {
		return 0, err
	}
	// It gets its name last: what has the name of a volume has a file system.
	draft := filepath.Join(v.folder, "draft")
	if err := os.WriteFile(draft, nil, 0o600); err != nil {
		return 0, err
	}
	if err := os.Truncate(draft, wanted); err != nil {
		return 0, err
	}
	if err := command(ctx, "mkfs.xfs", "-q", "-f", draft); err != nil {
		return 0, err
	}
	return wanted, os.Rename(draft, v.file(id))
}

// grow makes the file as large as asked for; its file system follows on the node. It never
// shrinks. Returns the size.
func (v *volumes) grow(id volumeID, asked *csi.CapacityRange) (int64, error) {
	wanted, err := sizeFor(asked)
	if err != nil {
		return 0, err
	}
	v.changing.Lock()
	defer v.changing.Unlock()
	size, err := v.size(id)
	if err != nil || size >= wanted {
		return size, err
	}
	return wanted, os.Truncate(v.file(id), wanted)
}

// remove deletes a volume that nothing uses; one that is not there is removed already.
func (v *volumes) remove(id volumeID) error {
	v.changing.Lock()
	defer v.changing.Unlock()
	device, err := loopDevice(v.file(id))
	if err != nil {
		return err
	}
	if device != "" {
		return status.Errorf(codes.FailedPrecondition, "volume %q is mounted, by %s", id, device)
	}
	if err := os.Remove(v.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// command runs a program to its end; what it said is in the error.
func command(ctx context.Context, name string, arguments ...string) error {
	output, err := exec.CommandContext(ctx, name, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
