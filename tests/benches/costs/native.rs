//! The native limit: two processes that share a memfd, without any sandbox.
//!
//! The other process runs this program too, with an argument that says so.
#![allow(unsafe_code)] // Maps memory that another process writes.

use std::fs::File;
use std::hint::black_box;
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;

use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::measure::Times;
use tombolo_test_guests::kernels;

/// The argument that makes this program the other process. The number of its socket
/// follows.
pub const PEER: &str = "--peer";

/// The use that the other process makes of the memory.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Use {
    /// Nothing.
    Not = 0,
    /// Touch each page.
    Touch = 1,
    /// Read every byte.
    Sum = 2,
}

/// The other process, and the memory that both share.
pub struct Peer {
    socket: UnixStream,
    child: Child,
    file: File,
    pub memory: MmapMut,
}

impl Peer {
    pub fn new(bytes: u64) -> Peer {
        let (socket, other) = UnixStream::pair().expect("there are sockets");
        let number = other.as_raw_fd();
        let mut command = Command::new(std::env::current_exe().expect("this has a path"));
        command.args([PEER, &number.to_string()]);
        let keep = move || {
            // The one descriptor that the child keeps.
            // SAFETY: this runs in `spawn`, and the socket is open until that returns.
            let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
            Ok(())
        };
        // SAFETY: the closure makes one system call, allocates nothing and takes no lock.
        unsafe { command.pre_exec(keep) };
        let child = command.spawn().expect("this program can be started");
        drop(other);
        let name = c"native";
        let file = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(file.expect("there are memfds"));
        file.set_len(bytes).expect("there is memory");
        // SAFETY: the other process only reads, and the file is never truncated.
        let memory = unsafe { MmapOptions::new().map_mut(&file) }.expect("it can be mapped");
        let peer = Peer {
            socket,
            child,
            file,
            memory,
        };
        peer.hand(Use::Not);
        peer
    }

    /// Passes the descriptor to the other process, which maps it, and waits for its answer.
    pub fn hand(&self, how: Use) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [self.file.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        let text = [how as u8];
        let sent = sendmsg(
            &self.socket,
            &[IoSlice::new(&text)],
            &mut control,
            SendFlags::empty(),
        );
        assert_eq!(sent, Ok(1));
        self.wait();
    }

    /// Signals the other process, which has kept its mapping, and waits for its answer.
    pub fn tell(&self, how: Use) {
        (&self.socket)
            .write_all(&[how as u8])
            .expect("the other lives");
        self.wait();
    }

    fn wait(&self) {
        let mut answer = [0];
        (&self.socket)
            .read_exact(&mut answer)
            .expect("the other lives");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// Runs the other process until its socket is closed.
pub fn peer(socket: &str) {
    let number = socket.parse().expect("it is a number");
    // SAFETY: the parent left the descriptor open for this, and nothing else here uses it.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(number) });
    let mut kept: Option<Mmap> = None;
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut text = [0];
        let mut parts = [IoSliceMut::new(&mut text)];
        let Ok(received) = recvmsg(&socket, &mut parts, &mut control, RecvFlags::empty()) else {
            return;
        };
        if received.bytes == 0 {
            return;
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                for file in files {
                    // SAFETY: the sender writes again only after it has the answer.
                    let mapped = unsafe { Mmap::map(&File::from(file)) };
                    kept = Some(mapped.expect("it can be mapped"));
                }
            }
        }
        let bytes = kept.as_deref().unwrap_or_default();
        match text[0] {
            it if it == Use::Touch as u8 => drop(black_box(kernels::touch(bytes))),
            it if it == Use::Sum as u8 => drop(black_box(kernels::sum(bytes))),
            _ => {}
        }
        if (&socket).write_all(&[1]).is_err() {
            return;
        }
    }
}

/// Measures the wake-up of one thread by another: half of a round trip, `times` times.
pub fn wake_up(times: u32, into: &mut Times) {
    let (there, came) = mpsc::channel::<()>();
    let main = thread::current();
    let other = thread::spawn(move || {
        while came.recv().is_ok() {
            main.unpark();
        }
    });
    // Each `recv` and `park` sleeps by a futex.
    into.times(2 * times, || {
        for _ in 0..times {
            there.send(()).expect("the other lives");
            thread::park();
        }
    });
    drop(there);
    other.join().expect("it does not panic");
}
