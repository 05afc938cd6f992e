// A small app on Slack's own Bolt for JavaScript. The test beside it lets the fake Slack send it
// one payload of every kind; what Bolt makes of them is reported on stdout, one JSON object a line.
// It ends when stdin does, so that it never outlives the test.
import bolt from '@slack/bolt';

const { App, HTTPReceiver, LogLevel, SocketModeReceiver } = bolt;
const env = process.env;
const report = (kind, more = {}) => process.stdout.write(`${JSON.stringify({ kind, ...more })}\n`);

// Bolt logs to stdout by default, which belongs to the reports.
const complain = (...words) => process.stderr.write(`bolt: ${words.join(' ')}\n`);
const logger = {
  debug() {}, info() {}, warn: complain, error: complain, setLevel() {}, setName() {}, getLevel: () => LogLevel.WARN,
};

const clientOptions = { slackApiUrl: env.ORACLE_API_URL, retryConfig: { retries: 0 } };
const overSocket = env.ORACLE_MODE === 'socket';
const receiver = overSocket
  ? new SocketModeReceiver({
      appToken: env.ORACLE_APP_TOKEN,
      clientPingTimeout: 1000, // also the wait before a reconnect
      installerOptions: { clientOptions },
      logger,
    })
  : new HTTPReceiver({
      signingSecret: env.ORACLE_SIGNING_SECRET,
      endpoints: ['/slack/commands', '/slack/interactions', '/slack/options', '/slack/events'],
      logger,
    });
const app = new App({ token: env.ORACLE_BOT_TOKEN, receiver, clientOptions, logger });

const plain = (text) => ({ type: 'plain_text', text });
const option = (value) => ({ text: plain(value), value });

const card = [
  { type: 'section', text: { type: 'mrkdwn', text: '*deploy* of demo', verbatim: true } },
  {
    type: 'actions',
    block_id: 'acts',
    elements: [
      { type: 'button', action_id: 'cancel', text: plain('Cancel'), value: 'op-1', style: 'danger' },
      { type: 'static_select', action_id: 'env', placeholder: plain('Environment'), options: [option('staging'), option('production')] },
    ],
  },
];

const modal = {
  type: 'modal',
  callback_id: 'deploy',
  notify_on_close: true,
  private_metadata: 'm-1',
  title: plain('Deploy'),
  submit: plain('Deploy'),
  close: plain('Cancel'),
  blocks: [
    {
      type: 'input',
      block_id: 'instance',
      label: plain('Instance'),
      element: { type: 'external_select', action_id: 'instance', placeholder: plain('Pick one'), min_query_length: 0 },
    },
    {
      type: 'input',
      block_id: 'reason',
      optional: true,
      label: plain('Reason'),
      element: { type: 'plain_text_input', action_id: 'reason', max_length: 100 },
    },
  ],
};

app.command('/ocim', async ({ command, ack, respond, client }) => {
  report('command', { text: command.text, user: command.user_id, channel: command.channel_id });
  switch (command.text) {
    case 'card':
      await ack();
      await client.chat.postMessage({ channel: command.channel_id, text: 'deploy of demo', blocks: card });
      break;
    case 'modal':
      await ack();
      await client.views.open({ trigger_id: command.trigger_id, view: modal });
      break;
    case 'respond':
      await ack();
      await respond({ text: 'later', response_type: 'in_channel' });
      break;
    default:
      await ack({ text: `bolt heard ${command.text}` });
  }
});

app.action('cancel', async ({ action, body, ack, client }) => {
  await ack();
  report('action', { id: action.action_id, value: action.value, user: body.user.id });
  await client.chat.update({ channel: body.channel.id, ts: body.message.ts, text: 'cancelled', blocks: [card[0]] });
});

app.action('env', async ({ action, body, ack, respond }) => {
  await ack();
  report('action', { id: action.action_id, value: action.selected_option.value, user: body.user.id });
  await respond({ text: `chose ${action.selected_option.value}`, replace_original: false });
});

app.options('instance', async ({ options, ack }) => {
  report('options', { value: options.value });
  await ack({ options: ['demo', 'demo-two'].filter((name) => name.includes(options.value)).map(option) });
});

app.view('deploy', async ({ view, ack }) => {
  const instance = view.state.values.instance.instance.selected_option.value;
  report('view_submission', { instance, metadata: view.private_metadata });
  if (instance === 'demo-two') {
    await ack({ response_action: 'errors', errors: { instance: 'already running' } });
  } else {
    await ack();
  }
});

app.view({ callback_id: 'deploy', type: 'view_closed' }, async ({ view, ack }) => {
  await ack();
  report('view_closed', { id: view.id });
});

app.event('app_home_opened', async ({ event, client }) => {
  report('event', { type: event.type, tab: event.tab });
  await client.views.publish({ user_id: event.user, view: { type: 'home', blocks: [card[0]] } });
});

app.event('app_mention', async ({ event, context, say }) => {
  report('event', { type: event.type, text: event.text, retry: context.retryNum ?? 0, reason: context.retryReason ?? '' });
  if (!context.retryNum) {
    await say({ text: 'here I am', thread_ts: event.ts });
  }
});

app.message(async ({ message }) => report('event', { type: 'message', text: message.text, channelType: message.channel_type }));

app.error(async (error) => report('error', { message: error.message, code: error.code }));

const started = await app.start(0);
report('ready', { port: overSocket ? 0 : started.address().port });

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
