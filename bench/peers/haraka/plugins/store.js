// Accepts every mail and stores it as a file: hidden while it is written, renamed into place, synced if
// asked. config/store.ini names the folder. No name server is asked.
const fs = require('node:fs')
const path = require('node:path')

exports.register = function () {
    const { main } = this.config.get('store.ini', { booleans: ['-main.fsync'] })
    this.folder = main.folder
    this.fsync = main.fsync
    this.count = 0
}

exports.hook_lookup_rdns = (next) => next(OK, 'localhost')

exports.hook_rcpt = (next) => next(OK)

exports.hook_queue = function (next, connection) {
    const name = `${String(++this.count).padStart(8, '0')}.eml`
    this.store(connection.transaction.message_stream, name).then(
        () => next(OK),
        (error) => {
            this.logerror(error.message)
            next(DENYSOFT, 'not stored')
        },
    )
}

exports.store = async function (message, name) {
    const hidden = path.join(this.folder, `.${name}`)
    const file = fs.createWriteStream(hidden, { flags: 'wx', flush: this.fsync })
    const written = new Promise((resolve, reject) => file.on('close', resolve).on('error', reject))
    message.pipe(file)
    await written
    await fs.promises.rename(hidden, path.join(this.folder, name))
    if (!this.fsync) return
    const folder = await fs.promises.open(this.folder)
    try {
        await folder.sync()
    } finally {
        await folder.close()
    }
}
