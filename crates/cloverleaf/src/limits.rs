//! Every tuning constant of the loop, each with its reason.

use std::time::Duration;

/// Events that one wait can report.
///
/// A full batch costs 16 KiB of memory once; what does not fit is reported by the next wait, which follows at
/// once. Larger batches gain nothing: the cost of a wait is spread over a thousand events already.
pub const EVENTS_PER_WAIT: usize = 1024;

/// Turns in a row without sleep and without an event after which a busy loop asks the kernel less often.
///
/// A program that counts turns, as tests do, finds events reported in the very next one; a loop that is busy for long
/// gets here within a tenth of a millisecond.
pub const QUIET_POLLS: u32 = 256;

/// For how long a loop that has been busy and heard of nothing for [`QUIET_POLLS`] leaves the kernel alone each time.
///
/// Asking costs as much as running one callback or two, and a loop with a task that gives way again and again would
/// ask after each. This is a small part of what waking a sleeping loop takes, and so of any event's latency.
pub const QUIET: Duration = Duration::from_micros(20);

/// How many turns such a loop makes without reading the clock, after as many and one more that were
/// [short](SHORT_TURNS): to read it takes a sixth of a turn of one callback.
pub const UNREAD_TURNS: u32 = 3;

/// What so many turns may take to be short: an eighth of what is to be told apart.
pub const SHORT_TURNS: Duration = Duration::from_nanos(2_500);

/// The clock is read before every turn of more jobs than these.
pub const FEW_JOBS: usize = 2;

/// For how long a loop that does not sleep keeps Python from other threads that may want it.
///
/// Letting go of Python costs 0.1 µs, so this costs half a hundredth; a thread that needs Python a few times for one
/// answer waits for less than asyncio lets it wait, which lets go in every turn of 15 to 30 µs.
pub const GIVE_WAY: Duration = Duration::from_micros(20);

/// Turns after which such a loop lets the others in, however short its turns are.
///
/// They may become long all at once.
pub const GIVE_WAY_TURNS: u32 = 64;

/// Turns after which such a loop looks again whether there are other threads at all.
///
/// Looking takes 40 instructions of the 2,000 of a turn with one callback.
pub const ALONE_TURNS: u32 = 8;

/// How often in a row a loop must find something when it asks the kernel before it sleeps, so that it goes on doing so.
///
/// What is spared each time is nearly as much as a call in vain costs.
pub const LOOKS_THAT_PAY: u32 = 4;

/// After how many sleeps at most a loop asks the kernel first again, although that was in vain time after time.
///
/// A call in vain takes 0.2 µs, so it costs 3 ns a sleep.
pub const SLEEPS_WITHOUT_LOOK: u32 = 64;

/// For how long a thread that has ended a loop's sleep waits at most for the loop to rest again.
///
/// It is the interpreter's switch interval, for which a thread that wants Python may have to wait anyway. A shorter limit
/// costs more: the kernel's next tick comes within it, so no timer of the processor needs to be set.
pub const ATTENDANCE: Duration = Duration::from_millis(5);

/// A wait for the loop's rest that took longer than this was in vain, whether the loop came to rest or not.
///
/// A coroutine of `run_coroutine_threadsafe` takes a fifth of it. Longer callbacks may let go of the processor, which the
/// caller could have used.
pub const PROMPT: Duration = Duration::from_micros(100);

/// Bytes of the read buffer that a loop lends to one source at a time.
///
/// The size asyncio asks for. One receive takes what has piled up on a fast connection, and the buffer is
/// allocated once per loop, so its size costs nothing per connection.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of the last receive from which on the next one goes straight into a `bytes` object.
///
/// Below, a copy out of the shared buffer costs less than shrinking an object: measured, they break even between
/// 1 and 4 KiB.
pub const DIRECT_READ_BYTES: usize = 4 * 1024;

/// Bytes that a receive straight into a `bytes` object asks for at most: what asyncio asks for.
pub const LARGEST_DIRECT_READ_BYTES: usize = 256 * 1024;

/// The same where the C library's allocator has not been readied for large blocks (see the binding's `allocator.rs`).
///
/// Cutting a block that was mapped from the kernel costs up to five times the message. What is larger goes through the
/// loop's buffer, and its copy into a `bytes` of its size costs a tenth of the message.
pub const LARGEST_UNPRIMED_READ_BYTES: usize = 64 * 1024;

/// Bytes of the block that readies the allocator: above every block that a receive asks for, and small enough to be
/// found on every machine.
pub const PRIMING_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of the longest write that is held until its event has been served, to be sent with others.
///
/// Holding copies; from here on copying costs more than it can save.
pub const LONGEST_HELD_WRITE_BYTES: usize = 4 * 1024;

/// Bytes that one transport holds at most. What is written beyond is sent at once, with what is held.
pub const HELD_BYTES: usize = 64 * 1024;

/// Microseconds after which a protocol's next write goes out at once, with what is held.
///
/// A dozen sends' time: a protocol that computes between its writes is slower than what holding saves.
pub const LONGEST_HOLD_MICROS: u64 = 50;

/// How long a callback may keep its loop from sending what is held. A thread does it then (`guard`).
///
/// Twenty times as long as a loop holds anything by itself; what waits for the effect of a send does not notice.
pub const LONGEST_UNSENT: Duration = Duration::from_millis(1);

/// How long that thread waits between two looks at least, while something is held now and then; and at most, when nothing
/// was held too long for some time.
///
/// A look costs 5 to 25 µs of processor time with the switches to it and back, which a loop that never blocks should not
/// pay a thousand times in a second.
pub const GUARD_NAP: Duration = Duration::from_millis(1);
/// See [`GUARD_NAP`].
pub const LONGEST_GUARD_NAP: Duration = Duration::from_millis(8);

/// Looks in a row without anything held after which it sleeps until it is woken.
///
/// To wake it costs the loop a system call, which a busy loop should not make often.
pub const GUARD_LOOKS: u32 = 4;

/// How often at most the kernel is asked, before a fork, whether it has forgotten that thread after its end.
///
/// Once or twice is enough, unless another program has the processor just then.
pub const GUARD_GONE_LOOKS: u32 = 1000;

/// Sockets ready in one turn from which on their receives, and their answers, go in one call, where the user has asked
/// for that.
///
/// Below, a ring costs more than it saves.
pub const READY_FOR_ONE_CALL: usize = 3;

/// Turns for which answers are sent one by one when protocols were too slow for theirs to go together.
///
/// Trying costs a slow protocol half a microsecond, so next to nothing even once in so many turns.
pub const SHORTEST_REST_TURNS: u32 = 8;
/// The same, when they were time after time.
pub const LONGEST_REST_TURNS: u32 = 256;

/// Events of one turn from which on those of sources that had one in the turn before come behind the others.
///
/// Fewer are served in a fraction of a millisecond, and who counts on the kernel's order finds it.
pub const READY_TO_BE_ORDERED: usize = 16;

/// Sockets through which one call sends at most, or from which it receives.
///
/// More would save next to nothing, and let the first of them wait longer.
pub const SOCKETS_PER_CALL: usize = 64;

/// Bytes that one socket receives at most in a call for many.
///
/// What is copied out of a room rather than received in place; who has received as much before is read on its own.
pub const ROOM_BYTES: usize = DIRECT_READ_BYTES;

/// Smaller reads in a row after which a socket that had more than a room for its last message is taken for one of small
/// messages again.
///
/// A large message that begins in a room costs as many calls more as it takes for the room to grow, and is told in
/// pieces; and the last piece of a large one is often small.
pub const READS_AFTER_A_LARGE_ONE: u8 = 32;

/// Bytes from the beginning of one such room to that of the next.
///
/// Rooms that all began at a multiple of a page would share a few lines of the processor's cache.
pub const ROOM_STRIDE_BYTES: usize = ROOM_BYTES + SLOT_STAGGER_BYTES;

/// Bytes that are held at most, by all transports of a loop, to go in one call.
///
/// The best of the sizes that we measured: more leaves the processor's caches before it is sent.
pub const BATCH_BYTES: usize = 256 * 1024;

/// Pieces that one gathered send may take, the kernel's own limit (`IOV_MAX`, see `sendmsg(2)`).
pub const PIECES_PER_SEND: usize = 1024;

/// Datagrams that one system call receives or sends, and that one socket may receive in one turn.
///
/// Most of what a call for many saves is saved by then, and a peer that sends without a pause holds the others up for
/// a fraction of a millisecond.
pub const DATAGRAMS_PER_CALL: usize = 64;

/// Datagrams of one size to one peer from which on they go as one that the kernel cuts, where it does.
///
/// Below, asking whether it does costs more than that saves.
pub const DATAGRAMS_TO_CUT: usize = 4;

/// Bytes that go as one datagram to be cut: a little less than the longest datagram, whose headers count, too.
pub const BYTES_TO_CUT: usize = 60 * 1024;

/// Bytes of the longest datagram of an IP socket: the length field of IP has 16 bits.
pub const LONGEST_IP_DATAGRAM_BYTES: usize = 64 * 1024;

/// Bytes of the longest datagram of any other socket; what is longer is cut, as asyncio cuts it.
pub const LONGEST_DATAGRAM_BYTES: usize = READ_BUFFER_BYTES;

/// Bytes by which the slots of a batch are set off against each other.
///
/// Slots that all began at a multiple of 64 KiB would share a few lines of the processor's cache.
pub const SLOT_STAGGER_BYTES: usize = 64;

/// Bytes of the room that a loop has for a batch of datagrams: a slot for each of as many IP datagrams as one call
/// receives. The system gives the pages that are written to and no others, and none to a loop without datagrams.
pub const DATAGRAM_BATCH_BYTES: usize =
    DATAGRAMS_PER_CALL * (LONGEST_IP_DATAGRAM_BYTES + SLOT_STAGGER_BYTES);

/// Events with a single datagram after which a socket is asked once more whether it has another.
///
/// A batch for one datagram costs 0.3 to 0.4 µs more than a plain receive, which a conversation of one datagram at a
/// time would pay on every turn; like this a burst is noticed after a few turns. Each time when there was none, it is
/// asked half as often.
pub const SINGLES_BEFORE_PROBE: u32 = 8;
/// The same for a socket that has had single datagrams for long.
pub const MOST_SINGLES_BEFORE_PROBE: u32 = 128;

/// Dead timers that are kept before the first compaction is considered.
///
/// Below this, sweeping costs more than the memory that it gives back.
pub const DEAD_TIMERS_KEPT: usize = 64;

/// Jobs, and timers, for which a loop keeps room though it has none any more: half a megabyte of each.
pub const ROOM_KEPT: usize = 16 * 1024;

/// How often at most a loop gives half of its other room back, when it is about to sleep.
///
/// A burst in each second has its room grow by one step each time; and after the largest of bursts a loop that wakes now and
/// then has given all of it back within some seconds. One that nothing wakes keeps it until then.
pub const ROOM_HALVED: Duration = Duration::from_secs(1);

/// Timers that are taken from the heap one by one, though more are due: the first ones, and one of so many in the heap.
///
/// One costs about as much as a look at so many entries; so picking all others out of the whole heap costs in
/// proportion to those that were due.
pub const DUE_ONE_BY_ONE: usize = 32;
/// See [`DUE_ONE_BY_ONE`].
pub const DUE_OF_HEAP: usize = 64;

/// Longest sleep of a driver, in seconds: a day, as asyncio's own limit.
///
/// `epoll_wait(2)` takes milliseconds in an `int`; a loop that wakes once a day to find nothing due goes back to
/// sleep.
pub const LONGEST_SLEEP_SECS: u64 = 24 * 3600;

/// Entries of a ring's submission queue: what one system call can start.
///
/// 64 bytes each. More operations in one turn cost one more call for each 128 of them, far less than they cost.
pub const RING_ENTRIES: u32 = 128;

/// Operations that a ring has in flight at most; it gives back what comes beyond, and a pool can do that.
///
/// No disk has use for more at a time, and the answers to as many, and to as many cancellations, fit the completion
/// queue, so none waits in the kernel's memory.
pub const RING_IN_FLIGHT: usize = 1024;

/// Milliseconds after which a kernel that had no memory for an operation is asked again.
pub const RING_RETRY_MS: u64 = 1;

/// Milliseconds for which a driver that closes waits for the operations that it has cancelled.
///
/// The disk answers in a fraction; a network file system may never, and its operations are then left to a thread.
pub const RING_GRACE_MS: u64 = 100;

/// Threads that a blocking pool starts at most when its owner names no number.
///
/// Enough for name lookups to overlap; each is started only when all others are busy.
pub const BLOCKING_THREADS: usize = 8;

/// Threads that the binding starts at most to look up names.
///
/// Each waits for a server, so processors are no measure; it is the most that asyncio's default executor has. A server
/// that does not answer keeps one for half a minute.
pub const LOOKUP_THREADS: usize = 32;

/// Threads that the binding starts at most for waits that may never end, one each: for the other end of a pipe, a
/// terminal, and for a child where the kernel gives no pidfd.
///
/// Each does nothing but sleep in the kernel; what is beyond these begins when another one has ended.
pub const WAITING_THREADS: usize = 1024;

/// What it takes to wake a thread on another processor from which on one looks for a moment before one sleeps.
///
/// In our virtual machine it takes 12 µs in the middle. Where it takes less than this, looking can gain next to nothing.
pub const DEAR_WAKE: Duration = Duration::from_micros(5);

/// One looks for so many times as long as the wake takes from who calls for it.
///
/// A hop there and back, with two sleeps, costs 5 times that in processor time, measured. Pieces of 64 KiB come too late for
/// half of this.
pub const LOOK_PER_WAKE: u64 = 4;

/// For how long one looks at most.
///
/// A hop there and back costs as much where it is dearest of what we have seen.
pub const LONGEST_LOOK: Duration = Duration::from_micros(60);

/// A look that takes longer than this was interrupted: others want the processor.
///
/// The share of another thread is a millisecond or more; an interrupt takes a small part of this.
pub const STOPPED: Duration = Duration::from_micros(500);

/// For how long nobody looks after that, at first, and at most where it happens time after time.
pub const SHORTEST_REST: Duration = Duration::from_millis(1);
/// See [`SHORTEST_REST`].
pub const LONGEST_REST: Duration = Duration::from_secs(1);

/// For how long a thread of a blocking pool stays without work.
pub const BLOCKING_IDLE: Duration = Duration::from_secs(10);

/// Bytes of a write that must wait from which on it is kept where it is, if it can never change, instead of copied.
///
/// A copy of this much costs about as much as keeping track of who owns it.
pub const SHARED_WRITE_BYTES: usize = 64 * 1024;

/// The same for one of several pieces that are written together, which would be copied before they are offered to the
/// kernel, not only if it does not take them.
pub const SHARED_PIECE_BYTES: usize = 16 * 1024;

/// Bytes of a write, or of all pieces of one, that must be copied to wait from which on the room is got before any is sent.
///
/// So much may be more than there is, which is the caller's to hear of. The kernel seldom takes it at once, so little room
/// is got in vain.
pub const LARGE_COPY_BYTES: usize = 1 << 20;

/// Bytes up to which waiting writes are copied together into one piece.
///
/// Copying this much costs about as much as one allocation and one more entry in a gathered send.
pub const COALESCE_BYTES: usize = 4096;

/// Operations on one descriptor that the Rust API lets a future begin in one turn before others get theirs.
///
/// A peer that sends without a pause would otherwise keep its task from ever waiting. The price of a detour through
/// the ready queue is small beside this many system calls.
pub const OPERATIONS_PER_TURN: usize = 64;

/// Clients that may wait for a listener of the Rust API to accept them; the kernel caps it (`listen(2)`).
///
/// A waiting client costs the kernel little, and one that is turned away tries again only after a second.
pub const LISTEN_BACKLOG: i32 = 1024;

/// Clients that a listener accepts in one turn at most; who waits behind them is reported again in the next.
///
/// Servers that stop close every connection that has not been heard yet, and those are the clients of the last two turns.
/// Whoever has not been accepted waits for another worker that has the listener, or for the one that comes instead. So
/// fewer is better; but a turn may be long, and then new clients wait for several. From one to sixteen cost the same.
pub const ACCEPTS_PER_TURN: usize = 8;

/// Milliseconds for which a listener of the Rust API pauses when descriptors or memory have run out.
///
/// Long enough not to burn the processor, short enough that clients do not give up meanwhile; asyncio waits a second,
/// which is felt.
pub const ACCEPT_PAUSE_MS: u64 = 100;

/// Milliseconds for which a blocking pool that closes waits for its busy threads.
///
/// A thread tells its answer from within its closure, so one whose answer is known may still look busy; this is time
/// enough for it to end even on a crowded machine, and little to wait when a name server does not answer.
pub const BLOCKING_GRACE_MS: u64 = 100;

/// Bytes that are read or written on the loop's thread at most, where no disk has to be waited for.
///
/// Copying this much takes about 0.1 ms, which is what it would cost to have a thread do it; more is left to a thread.
pub const AT_ONCE_BYTES: usize = 1024 * 1024;

/// Bytes of one piece of a copy between files: after each, the copy can be given up.
pub const COPY_PIECE_BYTES: usize = 8 * 1024 * 1024;

/// Bytes that a thread copies between files before it takes what else waits for a thread: some 40 ms where the page cache
/// has them. The way to the thread and back, 25 µs, is then a thousandth of it.
pub const COPY_STRETCH_BYTES: usize = 128 * 1024 * 1024;

/// Bytes that a copy moves at a time where the kernel does not copy by itself.
pub const COPY_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of aligned memory by which large transfers past the page cache go, beside what the caller has.
pub const DIRECT_PIECE_BYTES: usize = 4 << 20;

/// Bytes from which on a write goes to a thread though there is a ring, unless it goes past the page cache.
///
/// A ring leaves it to a thread of the kernel's, and needs a copy of the bytes before.
pub const THREAD_WRITE_BYTES: usize = 64 * 1024;

/// Bytes that an operation on a file moves at most through a ring; a thread does more.
///
/// An operation owns its buffer, so the bytes are copied once more; and what takes long anyway gains nothing by a ring.
pub const RING_BYTES: usize = 256 * 1024;

/// Operations on one file that take no wait before others are let run, in the binding.
///
/// Each takes a few microseconds, so others wait no longer than a callback of some length would make them.
pub const OPERATIONS_BETWEEN_PAUSES: u32 = 64;

/// To which multiple memory must begin for `O_DIRECT`: a page, which every file system is content with.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// How often a child tries again, a millisecond apart, to execute a program that somebody has open for writing.
///
/// Another child of this process may have a copy of the descriptor with which the program was written, until it has
/// closed it; with many children on a busy machine that takes tens of milliseconds. Nobody but the child waits.
pub const BUSY_PROGRAM_TRIES: u32 = 200;

/// How often a watcher looks at a loop in the time that counts as a stall.
///
/// It costs 5 to 10 µs each time, and a stall is noticed later by up to one such part.
pub const LOOKS_PER_STALL: u32 = 4;

/// How long a watcher waits between two looks at least. To look more often would cost more than a hundredth of a processor.
pub const SHORTEST_WATCH_NAP: Duration = Duration::from_millis(1);

/// And at most: so exact are long stalls.
pub const LONGEST_WATCH_NAP: Duration = Duration::from_secs(1);

/// How long it waits at most while it has told of a stall and looks for its end.
pub const STALL_END_NAP: Duration = Duration::from_millis(10);

/// In how many others one run of a loop may be, where a program has its loop run within itself.
///
/// Each takes some 3 KiB of the stack and of Python's own count of calls four or more, of which it allows 1,000 by default.
/// So this is for who has raised that: 1,000 runs take less than half of the usual 8 MiB.
pub const NESTED_RUNS: u32 = 1000;
