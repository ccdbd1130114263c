// A receiver on go-smtp that stores each mail as a file: buffered, renamed into place, synced if asked.
//
// Usage: main PORT FOLDER [--fsync]
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/emersion/go-smtp"
)

type backend struct {
	folder string
	fsync  bool
	count  uint64
}

type session struct{ backend *backend }

func (b *backend) Login(*smtp.ConnectionState, string, string) (smtp.Session, error) {
	return nil, smtp.ErrAuthUnsupported
}

func (b *backend) AnonymousLogin(*smtp.ConnectionState) (smtp.Session, error) {
	return &session{b}, nil
}

func (s *session) Reset()                              {}
func (s *session) Logout() error                       { return nil }
func (s *session) Mail(string, smtp.MailOptions) error { return nil }
func (s *session) Rcpt(string) error                   { return nil }
func (s *session) Data(reader io.Reader) error         { return s.backend.store(reader) }

func (b *backend) store(reader io.Reader) error {
	name := fmt.Sprintf("%08d.eml", atomic.AddUint64(&b.count, 1))
	temporary := filepath.Join(b.folder, "."+name)
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	writer := bufio.NewWriterSize(file, 65536)
	if _, err := io.Copy(writer, reader); err != nil {
		return err
	}
	if err := writer.Flush(); err != nil {
		return err
	}
	if b.fsync {
		if err := file.Sync(); err != nil {
			return err
		}
	}
	if err := os.Rename(temporary, filepath.Join(b.folder, name)); err != nil {
		return err
	}
	if !b.fsync {
		return nil
	}
	folder, err := os.Open(b.folder)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: main PORT FOLDER [--fsync]")
	}
	server := smtp.NewServer(&backend{folder: os.Args[2], fsync: len(os.Args) > 3})
	server.Addr = "127.0.0.1:" + os.Args[1]
	server.Domain = "localhost"
	server.AllowInsecureAuth = true
	server.MaxMessageBytes = 128 << 20
	server.MaxRecipients = 1000
	log.Fatal(server.ListenAndServe())
}
