package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stored is a folder of volumes in which mkfs.xfs does nothing: making file systems is its business.
func stored(t *testing.T) *volumes {
	t.Helper()
	programs := t.TempDir()
	script := []byte("#!/bin/sh\n")
	if err := os.WriteFile(filepath.Join(programs, "mkfs.xfs"), script, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs)
	volumes, err := openVolumes(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return volumes
}

func atLeast(bytes int64) *csi.CapacityRange {
	return &csi.CapacityRange{RequiredBytes: bytes}
}

func expect(t *testing.T, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%v, and not the code %s", err, code)
	}
}

func TestAnIDIsNoPath(t *testing.T) {
	for _, text := range []string{"", "..", "../other", "a/b", ".hidden", "-x", "a b", strings.Repeat("a", 129)} {
		_, err := parseID(text)
		expect(t, err, codes.InvalidArgument)
	}
	id, err := parseID("pvc-0b9a.1_B")
	if err != nil || id != "pvc-0b9a.1_B" {
		t.Errorf("%q, %v", id, err)
	}
}

func TestASizeIsTheSmallestThatWillDo(t *testing.T) {
	for _, row := range []struct{ required, limit, size int64 }{
		{0, 0, 300 * mib},
		{1, 0, 300 * mib},
		{1000 * mib, 0, 1000 * mib},
		{1000*mib + 1, 0, 1001 * mib},
		{0, 400 * mib, 300 * mib},
		{500 * mib, 500 * mib, 500 * mib},
	} {
		size, err := sizeFor(&csi.CapacityRange{RequiredBytes: row.required, LimitBytes: row.limit})
		if err != nil || size != row.size {
			t.Errorf("%+v: %d, %v", row, size, err)
		}
	}
}

func TestASizeThatCannotBeIsRefused(t *testing.T) {
	for _, row := range []struct {
		required, limit int64
		code            codes.Code
	}{
		{0, 299 * mib, codes.OutOfRange},
		{500*mib + 1, 500*mib + 2, codes.OutOfRange},
		{500, 400, codes.InvalidArgument},
		{-1, 0, codes.InvalidArgument},
	} {
		_, err := sizeFor(&csi.CapacityRange{RequiredBytes: row.required, LimitBytes: row.limit})
		expect(t, err, row.code)
	}
}

func TestAVolumeIsMadeOnce(t *testing.T) {
	volumes := stored(t)
	for range 2 {
		size, err := volumes.create(t.Context(), "one", atLeast(400*mib))
		if err != nil || size != 400*mib {
			t.Fatalf("%d, %v", size, err)
		}
	}
	_, err := volumes.create(t.Context(), "one", atLeast(401*mib))
	expect(t, err, codes.AlreadyExists)
	_, err = volumes.create(t.Context(), "one", &csi.CapacityRange{LimitBytes: 399 * mib})
	expect(t, err, codes.AlreadyExists)
}

func TestAVolumeWithoutAFileSystemIsNoVolume(t *testing.T) {
	volumes := stored(t)
	t.Setenv("PATH", t.TempDir())
	if _, err := volumes.create(t.Context(), "one", atLeast(0)); err == nil {
		t.Error("made without mkfs.xfs")
	}
	_, err := volumes.size("one")
	expect(t, err, codes.NotFound)
}

func TestAVolumeGrowsAndNeverShrinks(t *testing.T) {
	volumes := stored(t)
	if _, err := volumes.create(t.Context(), "one", atLeast(0)); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ asked, size int64 }{{500 * mib, 500 * mib}, {400 * mib, 500 * mib}} {
		size, err := volumes.grow("one", atLeast(row.asked))
		if err != nil || size != row.size {
			t.Errorf("%+v: %d, %v", row, size, err)
		}
		if kept, _ := volumes.size("one"); kept != row.size {
			t.Errorf("%+v: the file has %d", row, kept)
		}
	}
	_, err := volumes.grow("other", atLeast(0))
	expect(t, err, codes.NotFound)
}

func TestAVolumeIsRemovedTwice(t *testing.T) {
	volumes := stored(t)
	if _, err := volumes.create(t.Context(), "one", atLeast(0)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := volumes.remove("one"); err != nil {
			t.Fatal(err)
		}
		_, err := volumes.size("one")
		expect(t, err, codes.NotFound)
	}
}
