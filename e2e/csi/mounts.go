package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// mountFile mounts the file system in a file. mount(8) marks the loop device to be detached by the
// kernel with the last unmount: none is left behind, however this process, the node or the mount
// namespace ends.
func mountFile(ctx context.Context, file, target string, flags []string) error {
	options := strings.Join(append([]string{"loop"}, flags...), ",")
	return command(ctx, "mount", "-t", "xfs", "-o", options, file, target)
}

// bind makes a folder seen at target too.
func bind(folder, target string, readOnly bool) error {
	if err := unix.Mount(folder, target, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "bind", Path: target, Err: err}
	}
	if !readOnly {
		return nil
	}
	// The kernel takes the flag only when the mount is there (mount(2), "Remounting").
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return errors.Join(&fs.PathError{Op: "remount", Path: target, Err: err}, unmount(target))
	}
	return nil
}

// unmount takes a mount away, if there is one.
func unmount(target string) error {
	mounted, err := isMountPoint(target)
	if err != nil || !mounted {
		return err
	}
	if err := unix.Unmount(target, 0); err != nil {
		return &fs.PathError{Op: "unmount", Path: target, Err: err}
	}
	return nil
}

func isMountPoint(path string) (bool, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	return mentions(string(table), filepath.Clean(path)), nil
}

// escapes of spaces, tabs, newlines and backslashes in mount tables (proc_pid_mountinfo(5)).
var escapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// mentions tells whether a mount table has a mount at path, its fifth field.
func mentions(table, path string) bool {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > 4 && escapes.Replace(fields[4]) == path {
			return true
		}
	}
	return false
}

// loopDevice is the device that a file is attached to; empty if it is to none.
func loopDevice(file string) (string, error) {
	attached, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, path := range attached {
		backing, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			// Detached in the meantime.
			continue
		}
		if err != nil {
			return "", err
		}
		if strings.TrimSuffix(string(backing), "\n") == file {
			return "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(path))), nil
		}
	}
	return "", nil
}

// growMounted lets the file system that is mounted at path fill its file, which was made larger.
// Returns the file's size.
func growMounted(ctx context.Context, file, path string) (int64, error) {
	name, err := loopDevice(file)
	if err != nil {
		return 0, err
	}
	if name == "" {
		return 0, status.Errorf(codes.FailedPrecondition, "%s is not mounted", file)
	}
	device, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer device.Close()
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return 0, &fs.PathError{Op: "resize", Path: name, Err: err}
	}
	if err := command(ctx, "xfs_growfs", path); err != nil {
		return 0, err
	}
	grown, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return grown.Size(), nil
}

// usageOf tells how full the file system at path is, in bytes and in inodes.
func usageOf(path string) ([]*csi.VolumeUsage, error) {
	var found unix.Statfs_t
	if err := unix.Statfs(path, &found); err != nil {
		return nil, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	block := found.Bsize
	return []*csi.VolumeUsage{
		{
			Unit:      csi.VolumeUsage_BYTES,
			Total:     int64(found.Blocks) * block,
			Available: int64(found.Bavail) * block,
			Used:      int64(found.Blocks-found.Bfree) * block,
		},
		{
			Unit:      csi.VolumeUsage_INODES,
			Total:     int64(found.Files),
			Available: int64(found.Ffree),
			Used:      int64(found.Files - found.Ffree),
		},
	}, nil
}
